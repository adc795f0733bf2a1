package identity

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// The zones of addresses that no configured range has.
const (
	zoneNode     = "node"
	zonePod      = "pod"
	zoneLoopback = "loopback"
)

// sourceKey is an address as seen by a cluster.
type sourceKey struct{ cluster, ip string }

func (k sourceKey) clone() sourceKey {
	return sourceKey{cluster: strings.Clone(k.cluster), ip: strings.Clone(k.ip)}
}

// source is what is known of an address whatever the cluster does.
type source struct {
	addr             netip.Addr // invalid if it is none
	text             string     // as the context writes it
	country, network string
	now              *context.Moment // of the organization, when zone was looked up
	zone             string          // of the configured range, from now.Newest on
}

// source looks an address up. zone is that of the configured range at the time; what else is known of the address does
// not change.
func (j *Joiner) source(e *schemas.Event, at int64) (s *source, zone string) {
	key := sourceKey{cluster: e.Cluster, ip: e.SourceIP}
	now := j.store.Cluster(context.Organization).Moment()
	s, ok := j.sources.get(key)
	if !ok {
		s = &source{}
		if addr, err := netip.ParseAddr(e.SourceIP); err == nil {
			s.addr = addr.Unmap().WithZone("")
			s.text = s.addr.String()
			s.country, s.network = j.places.Lookup(s.addr)
		}
		j.sources.put(key, s)
	}
	switch {
	case now == nil:
		return s, "" // no ranges are configured
	case at < now.Newest:
		return s, j.zone(e.Cluster, s.addr, at) // what is remembered holds for later times alone
	case s.now != now:
		s.now, s.zone = now, j.zone(e.Cluster, s.addr, at)
	}
	return s, s.zone
}

// zone is that of the narrowest configured range.
func (j *Joiner) zone(cluster string, addr netip.Addr, at int64) string {
	if !addr.IsValid() {
		return ""
	}
	item := j.store.Zone(cluster, addr, at)
	if item == nil || item.Object == nil || item.Object.Range == nil {
		return ""
	}
	return item.Object.Range.Zone
}

// origin sets where the request came from. pod is the one that the caller's token is bound to, if it is known.
func (j *Joiner) origin(cluster *context.Cluster, e *schemas.Event, pod *context.Item, at int64) {
	e.SourceZone, e.SourceCountry, e.SourceNetwork, e.SourceNode, e.OffNode = "", "", "", "", ""
	if e.SourceIP == "" {
		return
	}
	s, zone := j.source(e, at)
	if !s.addr.IsValid() {
		return
	}
	e.SourceZone, e.SourceCountry, e.SourceNetwork = zone, s.country, s.network
	address, known := cluster.AddressOf(s.addr, at)
	if known {
		e.SourceNode = address.Node
	}
	if e.SourceZone == "" {
		e.SourceZone = learned(cluster, s, address, known, at)
	}
	if e.Node != "" && (e.ActorKind == Node || e.ActorKind == ServiceAccount) {
		e.OffNode = j.offNode(cluster, e, s.text, zone, pod, at)
	}
}

// learned is the zone of an address that the cluster itself has.
func learned(cluster *context.Cluster, s *source, address context.Address, known bool, at int64) string {
	switch {
	case known && address.Pod != context.Key{}:
		return zonePod
	case known && slices.Contains(addresses(cluster, address.Node, at), s.text):
		return zoneNode
	case known:
		return zonePod // in the node's range of pods
	case s.addr.IsLoopback():
		return zoneLoopback
	}
	return ""
}

// addresses are a node's own.
func addresses(cluster *context.Cluster, node string, at int64) []string {
	item := cluster.Find(context.Key{Kind: context.Node, Name: node}, at)
	if item == nil || item.Object == nil || item.Object.Node == nil {
		return nil
	}
	return item.Object.Node.Addresses
}

// hides reports whether addresses of a zone stand for others behind them, by the name that it was given.
func hides(zone string) bool {
	switch strings.ToLower(zone) {
	case "nat", "egress", "proxy", "loadbalancer":
		return true
	}
	return false
}

// offNode says whether the credential of a node, or of a pod on it, was used from somewhere else. Only what is known
// counts:
//   - the address of the pod or of its node: it was not;
//   - that of another node of the cluster, or of a pod there: it was;
//   - an address in a configured range, if the node's own addresses are known and are in none of the same zone: it was.
//     Requests of pods may well arrive from another address of their network, but not from an office;
//   - in a range whose zone is called nat, egress, proxy or loadbalancer: unknown, as that hides who is behind it. A load
//     balancer on nodes before the API server must be configured so;
//   - any other address: unknown. Where nodes reach the API server through NAT, all their requests come from a public
//     address. Who knows better configures 0.0.0.0/0 and ::/0 as a zone, and the NAT as one called nat.
func (j *Joiner) offNode(cluster *context.Cluster, e *schemas.Event, source, zone string, pod *context.Item, at int64) string {
	switch {
	case hides(zone):
		return ""
	case pod != nil && pod.Object.Pod != nil && slices.Contains(pod.Object.Pod.IPs, source):
		return schemas.False
	case e.SourceNode == e.Node:
		return schemas.False
	case e.SourceNode != "":
		return schemas.True
	case zone == "":
		return ""
	}
	own := addresses(cluster, e.Node, at)
	for _, text := range own {
		addr, err := netip.ParseAddr(text)
		if err == nil && j.zone(e.Cluster, addr, at) == zone {
			return ""
		}
	}
	if len(own) == 0 {
		return ""
	}
	return schemas.True
}
