package directory

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

func rangeColumns() []column {
	return []column{
		{name: "cidr", aliases: []string{"range", "network", "prefix"}},
		{name: "zone"},
		{name: "cluster"},
	}
}

// ReadRanges reads a list of IP ranges: CSV with a header row, JSON, or plain lines "CIDR ZONE [CLUSTER]", in which # begins
// a comment. The fields are cidr (an address is a range of one), zone, and cluster if the range means something else in
// others. That one range lies within another is no fault, the narrowest counts, but is noted.
func ReadRanges(file, source string, in io.Reader) (*List, error) {
	r := newReader(file, source, context.Range)
	text, ok := r.readText(in)
	if !ok {
		return r.done()
	}
	var all []ranged
	add := func(w *row) {
		if entry, ok := r.ranged(w); ok {
			all = append(all, entry)
		}
	}
	if plain(text) {
		r.plainRows(text, add)
	} else {
		r.rows(text, rangeColumns(), "ranges", add)
	}
	r.overlaps(all)
	return r.done()
}

type ranged struct {
	prefix netip.Prefix
	line   int
	object *context.RangeInfo
}

// plain says whether a text has lines that begin with an address, or nothing but comments.
func plain(text []byte) bool {
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if line[0] == '[' || line[0] == '{' {
			return false
		}
		fields := bytes.FieldsFunc(line, func(c rune) bool { return strings.ContainsRune(",;\t \"", c) })
		if len(fields) == 0 {
			return false
		}
		for _, c := range rangeColumns() {
			head := normal(string(fields[0]))
			if head == c.name || slices.Contains(c.aliases, head) {
				return false
			}
		}
		return true
	}
	return false
}

func (r *reader) plainRows(text []byte, yield func(*row)) {
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case len(fields) == 1 || len(fields) > 3:
			r.fault(n, "", fmt.Sprintf("want CIDR ZONE [CLUSTER], got %d fields", len(fields)), `write it like "10.8.0.0/16 vpn"; a comment begins with #`)
		default:
			w := &row{line: n, values: map[string][]string{}}
			before := len(r.faults)
			columns := rangeColumns()
			for i, field := range fields {
				r.set(w, n, &columns[i], []string{field})
			}
			if len(r.faults) == before {
				yield(w)
			}
		}
	}
}

func (r *reader) ranged(w *row) (ranged, bool) {
	text := w.one("cidr")
	prefix, problem, remedy := parsePrefix(text)
	if problem != "" {
		r.fault(w.line, "cidr", problem, remedy)
		return ranged{}, false
	}
	zone, cluster := w.one("zone"), w.one("cluster")
	if zone == "" {
		r.fault(w.line, "zone", "empty", "say what the range is, like vpn or office")
		return ranged{}, false
	}
	name := prefix.String()
	if cluster != "" {
		if strings.Contains(cluster, "/") || cluster == context.Organization {
			r.fault(w.line, "cluster", quoted(cluster)+" is no name of a cluster", "name one cluster, or leave it empty for all")
			return ranged{}, false
		}
		name = cluster + "/" + name
	}
	entry := ranged{prefix: prefix, line: w.line, object: &context.RangeInfo{CIDR: prefix.String(), Zone: zone, Cluster: cluster}}
	r.add(w.line, "cidr", context.Key{Kind: context.Range, Name: name}, &context.Object{Range: entry.object})
	return entry, true
}

func parsePrefix(text string) (prefix netip.Prefix, problem, remedy string) {
	if text == "" {
		return prefix, "empty", "write a range like 10.8.0.0/16 or 2001:db8::/32"
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return prefix, quoted(text) + " is no range of addresses", "write it like 10.8.0.0/16 or 2001:db8::/32"
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return prefix, quoted(text) + " is an IPv4 range written as IPv6", "write the IPv4 range"
	}
	if prefix != prefix.Masked() {
		return prefix, quoted(text) + " has bits behind its length", "write " + prefix.Masked().String() + ", or a longer prefix if only a part is meant"
	}
	return prefix, "", ""
}

// overlaps notes which ranges lie within others and mean something else: the narrower counts.
func (r *reader) overlaps(all []ranged) {
	slices.SortFunc(all, func(a, b ranged) int { return a.prefix.Compare(b.prefix) })
	const most = 20
	found := 0
	var around []ranged // those that hold the one that is looked at, the widest first
	for _, one := range all {
		for len(around) > 0 && !around[len(around)-1].prefix.Overlaps(one.prefix) {
			around = around[:len(around)-1]
		}
		for _, outer := range slices.Backward(around) {
			same := outer.object.Cluster == "" || outer.object.Cluster == one.object.Cluster
			if !same || outer.prefix == one.prefix && outer.object.Cluster == one.object.Cluster {
				continue
			}
			if outer.object.Zone != one.object.Zone {
				if found++; found <= most {
					r.note("line %d: %s (%s) lies within %s (%s) of line %d: the narrower one counts", one.line, one.object.CIDR, one.object.Zone,
						outer.object.CIDR, outer.object.Zone, outer.line)
				}
			}
			break
		}
		around = append(around, one)
	}
	if found > most {
		r.note("%d more ranges lie within others", found-most)
	}
}
