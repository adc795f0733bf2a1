package identity_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/enrich/origin"
	"github.com/auditmill/auditmill/schemas"
)

func zoneKey(cidr string) context.Key { return context.Key{Kind: context.Range, Name: cidr} }

func TestOffNode(t *testing.T) {
	s := store("prod", past, cluster())
	for cidr, zone := range map[string]string{
		"192.0.2.0/24": "datacenter", "198.51.100.0/24": "office", "198.51.100.9/32": "nat", "192.0.2.200/32": "proxy",
	} {
		add(s, context.Organization, past, objects{zoneKey(cidr): {Range: &context.RangeInfo{CIDR: cidr, Zone: zone}}})
	}
	j := identity.NewJoiner(s, nil)
	for name, tt := range map[string]struct {
		node, source string
		want         string
	}{
		"its node":                      {"node-a", "192.0.2.1", "false"},
		"a pod of its node":             {"node-a", "10.9.9.9", "false"},
		"the range of pods of its node": {"node-a", "10.0.1.200", "false"},
		"another node":                  {"node-a", "192.0.2.2", "true"},
		"another node, mapped":          {"node-a", "::ffff:192.0.2.2", "true"},
		"another node, by IPv6":         {"node-a", "2001:db8:0:0::2", "true"},
		"a pod of another node":         {"node-a", "10.0.2.7", "true"},
		"the range of another node":     {"node-a", "10.0.2.99", "true"},
		"the office":                    {"node-a", "198.51.100.1", "true"},
		"the office, node unknown":      {"node-z", "198.51.100.1", ""},
		"the network of the nodes":      {"node-a", "192.0.2.77", ""},
		"NAT":                           {"node-a", "198.51.100.9", ""},
		"a proxy":                       {"node-a", "192.0.2.200", ""},
		"a public address":              {"node-a", "203.0.113.1", ""},
		"a private address":             {"node-a", "172.16.0.1", ""},
		"the host of the API server":    {"node-a", "127.0.0.1", ""},
		"no address":                    {"node-a", "", ""},
		"not an address":                {"node-a", "node-a", ""},
		"a token without a node":        {"", "192.0.2.2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if e := joined(j, account("", "", tt.node, tt.source, "")); e.OffNode != tt.want {
				t.Errorf("got %q, want %q; source node %q, zone %q", e.OffNode, tt.want, e.SourceNode, e.SourceZone)
			}
		})
	}
	kubelet := schemas.Event{User: "system:node:node-a", Groups: []string{"system:nodes"}, SourceIP: "192.0.2.2"}
	if e := joined(j, kubelet); e.OffNode != "true" {
		t.Errorf("got %q of a node's certificate on another node", e.OffNode)
	}
	scheduler := schemas.Event{User: "system:kube-scheduler", SourceIP: "192.0.2.2"}
	if e := joined(j, scheduler); e.OffNode != "" || e.SourceNode != "node-b" {
		t.Errorf("got off_node %q, source_node %q of the scheduler", e.OffNode, e.SourceNode)
	}
}

func TestPlaces(t *testing.T) {
	places, err := origin.OpenPlaces([]string{"../origin/testdata/places.mmdb"})
	if err != nil {
		t.Fatal(err)
	}
	j := identity.NewJoiner(context.NewStore(context.DefaultConfig()), places)
	for ip, want := range map[string][2]string{
		"203.0.113.7": {"DE", "AS64500 Example Ltd"}, "::ffff:203.0.113.7": {"DE", "AS64500 Example Ltd"}, "2001:db8::7": {"JP", "AS64501 Example KK"},
		"10.0.0.1": {}, "192.0.2.1": {}, "": {}, "x": {},
	} {
		for range 2 {
			if e := joined(j, schemas.Event{SourceIP: ip}); [2]string{e.SourceCountry, e.SourceNetwork} != want {
				t.Errorf("%s: got %q %q, want %q", ip, e.SourceCountry, e.SourceNetwork, want)
			}
		}
	}
}

func TestZone(t *testing.T) {
	s := store("prod", past, cluster())
	add(s, context.Organization, past, objects{
		zoneKey("10.0.0.0/8"):      {Range: &context.RangeInfo{CIDR: "10.0.0.0/8", Zone: "private"}},
		zoneKey("dev/10.0.2.0/24"): {Range: &context.RangeInfo{CIDR: "10.0.2.0/24", Zone: "dev's", Cluster: "dev"}},
		zoneKey("203.0.113.0/24"):  {Range: &context.RangeInfo{CIDR: "203.0.113.0/24", Zone: "vpn"}},
	})
	j := identity.NewJoiner(s, nil)
	for _, tt := range []struct{ cluster, ip, want string }{
		{"prod", "10.0.2.7", "private"}, // what is configured counts before what is learned
		{"dev", "10.0.2.7", "dev's"},
		{"prod", "203.0.113.7", "vpn"},
		{"prod", "192.0.2.1", "node"},
		{"dev", "192.0.2.1", ""}, // a node of another cluster
		{"prod", "127.0.0.1", "loopback"},
		{"prod", "::1", "loopback"},
		{"prod", "198.51.100.1", ""},
		{"prod", "fe80::1%eth0", ""},
		{"prod", "x", ""},
	} {
		for range 2 {
			if e := joined(j, schemas.Event{Cluster: tt.cluster, SourceIP: tt.ip}); e.SourceZone != tt.want {
				t.Errorf("%s of %s: got %q, want %q", tt.ip, tt.cluster, e.SourceZone, tt.want)
			}
		}
	}
	// The office moves; events of before keep their zone.
	add(s, context.Organization, now+10, objects{zoneKey("203.0.113.0/24"): {Range: &context.RangeInfo{CIDR: "203.0.113.0/24", Zone: "office"}}})
	for _, tt := range []struct {
		at   int64
		want string
	}{{now, "vpn"}, {now + 10, "office"}, {now + 9, "vpn"}, {now + 11, "office"}, {past - 1, ""}} {
		if e := joined(j, schemas.Event{SourceIP: "203.0.113.7", EventTime: tt.at}); e.SourceZone != tt.want {
			t.Errorf("at %+d: got %q, want %q", tt.at-now, e.SourceZone, tt.want)
		}
	}
}

// Addresses come from the API server, and through it from whoever is in front of it.
func FuzzSource(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "::ffff:10.0.2.7", "fe80::1%x", "127.0.0.1", "", "x", "10.0.2.7:443"} {
		f.Add(s)
	}
	j := identity.NewJoiner(store("prod", past, cluster()), nil)
	f.Fuzz(func(t *testing.T, ip string) {
		first := who(joined(j, account("api-7-x", "u-api", "node-a", ip, "")))
		again := who(joined(identity.NewJoiner(store("prod", past, cluster()), nil), account("api-7-x", "u-api", "node-a", ip, "")))
		if diff := cmp.Diff(first, again); diff != "" {
			t.Fatalf("%q: (-first +again)\n%s", ip, diff)
		}
		if _, err := netip.ParseAddr(ip); err != nil && (first["source_zone"] != nil || first["off_node"] != nil) {
			t.Fatalf("%q is no address, got %v", ip, first)
		}
	})
}
