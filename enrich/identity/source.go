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
	now              *context.Moment // of the organization, when the range was looked up
	zone             string          // of the configured range
}

// source looks an address up.
func (j *Joiner) source(e *schemas.Event, at int64) *source {
	key := sourceKey{cluster: e.Cluster, ip: e.SourceIP}
	now := j.store.Cluster(context.Organization).Moment()
	s, ok := j.sources.get(key)
	switch {
	case !ok:
		s = &source{now: now}
		if addr, err := netip.ParseAddr(e.SourceIP); err == nil {
			s.addr = addr.Unmap().WithZone("")
			s.text = s.addr.String()
			s.country, s.network = j.places.Lookup(s.addr)
		}
	case s.now == now && (now == nil || at >= now.Newest):
		return s
	}
	zone := j.zone(e.Cluster, s.addr, at)
	if now == nil || at >= now.Newest {
		s.now, s.zone = now, zone
		if !ok {
			j.sources.put(key, s)
		}
		return s
	}
	other := *s
	other.zone = zone
	if !ok {
		s.now = nil // its zone was not looked up for now
		j.sources.put(key, s)
	}
	return &other
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
	s := j.source(e, at)
	if !s.addr.IsValid() {
		return
	}
	e.SourceZone, e.SourceCountry, e.SourceNetwork = s.zone, s.country, s.network
	address, known := cluster.Address(s.text, at)
	if known {
		e.SourceNode = address.Node
	}
	if e.SourceZone == "" {
		e.SourceZone = learned(cluster, s, address, known, at)
	}
	if e.Node != "" && (e.ActorKind == Node || e.ActorKind == ServiceAccount) {
		e.OffNode = j.offNode(cluster, e, s, pod, at)
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
func (j *Joiner) offNode(cluster *context.Cluster, e *schemas.Event, s *source, pod *context.Item, at int64) string {
	switch {
	case hides(s.zone):
		return ""
	case pod != nil && pod.Object.Pod != nil && slices.Contains(pod.Object.Pod.IPs, s.text):
		return schemas.False
	case e.SourceNode == e.Node:
		return schemas.False
	case e.SourceNode != "":
		return schemas.True
	case s.zone == "":
		return ""
	}
	own := addresses(cluster, e.Node, at)
	for _, text := range own {
		addr, err := netip.ParseAddr(text)
		if err == nil && j.zone(e.Cluster, addr, at) == s.zone {
			return ""
		}
	}
	if len(own) == 0 {
		return ""
	}
	return schemas.True
}
