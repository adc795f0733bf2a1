package origin

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Places knows the country and the network of public addresses, from files in the MaxMind DB format. It is safe for
// concurrent use; a nil *Places knows none.
type Places struct {
	files []*placeFile
}

// placeFile is one file, with what was read of its records: few of them stand for most addresses.
type placeFile struct {
	reader *maxminddb.Reader

	mu    sync.Mutex
	known map[uintptr]place // by the offset of the record; guarded by mu
}

type place struct{ country, network string }

const (
	maxPlaces = 1 << 14 // records that are remembered of a file
	maxProbed = 1 << 12 // networks that are looked up to see what a file is about
)

// OpenPlaces reads files with countries, networks or both: GeoLite2, DB-IP, IPinfo and ip-location-db write them
// differently, all are understood. Where several files know an address, the first one counts. The files are read whole:
// one that is replaced in place later can do no harm, and is not noticed. All errors name the file.
func OpenPlaces(files []string) (*Places, error) {
	p := &Places{}
	var faults []error
	for _, name := range files {
		f, err := openPlaces(name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		p.files = append(p.files, f)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return p, nil
}

func openPlaces(name string) (*placeFile, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading MMDB file: %w: name a file that this process may read, or none", err)
	}
	return parsePlaces(name, data)
}

func parsePlaces(name string, data []byte) (*placeFile, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return nil, fmt.Errorf("reading MMDB file %s: it is compressed by gzip: decompress it first", name)
	}
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("reading MMDB file %s: %w: want a whole file in MaxMind's DB format (.mmdb)", name, err)
	}
	f := &placeFile{reader: reader, known: map[uintptr]place{}}
	return f, f.probe(name)
}

// probe makes sure that records can be read and say something of use. It goes from network to network by look-ups: to
// walk the tree of a damaged file could take forever.
func (f *placeFile) probe(name string) error {
	probed, records := 0, 0
	for _, start := range []netip.Addr{netip.IPv4Unspecified(), netip.MustParseAddr("2000::")} {
		for addr := start; addr.IsValid() && probed < maxProbed; probed++ {
			result := f.reader.Lookup(addr)
			if result.Err() != nil {
				break // IPv6 in a file of IPv4
			}
			if result.Found() {
				records++
				p, err := read(result)
				if err != nil {
					return fmt.Errorf("reading MMDB file %s: record of %s: %w: get the file anew", name, result.Prefix(), err)
				}
				if p != (place{}) {
					return nil
				}
			}
			addr = after(result.Prefix(), addr)
		}
	}
	return fmt.Errorf("reading MMDB file %s of type %q: none of %d records names a country (country.iso_code or country_code) "+
		"or a network (autonomous_system_number or asn): use a country, city or ASN database", name, f.reader.Metadata.DatabaseType, records)
}

// after returns the address that follows a network in which addr is; none after the last one.
func after(network netip.Prefix, addr netip.Addr) netip.Addr {
	if !network.IsValid() || network.Addr().Is4() != addr.Is4() {
		return netip.Addr{}
	}
	last := addr.AsSlice()
	for bit := network.Bits(); bit < addr.BitLen(); bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	next, _ := netip.AddrFromSlice(last)
	return next.Next()
}

// Lookup returns the country of a public address by its ISO 3166 code, and the network that announces it, such as
// "AS64500 Example Ltd"; empty if unknown. Addresses that mean another host in each network have neither.
func (p *Places) Lookup(addr netip.Addr) (country, network string) {
	if p == nil || !Public(addr) {
		return "", ""
	}
	addr = addr.Unmap()
	for _, f := range p.files {
		found := f.lookup(addr)
		if country == "" {
			country = found.country
		}
		if network == "" {
			network = found.network
		}
		if country != "" && network != "" {
			break
		}
	}
	return country, network
}

func (f *placeFile) lookup(addr netip.Addr) place {
	result := f.reader.Lookup(addr)
	if !result.Found() {
		return place{} // also IPv6 in a file of IPv4, and what is damaged
	}
	offset := result.Offset()
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.known[offset]
	if ok {
		return p
	}
	if len(f.known) >= maxPlaces {
		clear(f.known)
	}
	p, err := read(result)
	if err != nil {
		p = place{} // unknown
	}
	f.known[offset] = p
	return p
}

// Public reports whether an address means the same host everywhere in the internet.
func Public(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !carrier().Contains(addr)
}

// carrier are the addresses behind carriers' NAT (RFC 6598), which clouds use for pods.
func carrier() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10)
}

func read(result maxminddb.Result) (p place, err error) {
	var record map[string]any
	if err := result.Decode(&record); err != nil {
		return place{}, fmt.Errorf("decoding: %w", err)
	}
	return place{country: country(record), network: network(record)}, nil
}

// country understands {"country":{"iso_code":"DE"}} of GeoLite2 and DB-IP, {"country_code":"DE"} of ip-location-db and
// IPinfo Lite, where "country" is a name, and {"country":"DE"} of other IPinfo files.
func country(record map[string]any) string {
	for _, path := range [][2]string{{"country", "iso_code"}, {"country_code"}, {"country"}} {
		code := strings.ToUpper(text(at(record, path)))
		if len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z' {
			return code
		}
	}
	return ""
}

// network understands {"autonomous_system_number":64500,"autonomous_system_organization":"Example Ltd"} of GeoLite2,
// DB-IP and ip-location-db, also below "traits", and {"asn":"AS64500","as_name":"Example Ltd"} or "name" of IPinfo.
func network(record map[string]any) string {
	var as, organization string
	for _, path := range [][2]string{{"autonomous_system_number"}, {"traits", "autonomous_system_number"}, {"asn"}, {"asn", "asn"}} {
		if as = asNumber(at(record, path)); as != "" {
			break
		}
	}
	for _, path := range [][2]string{
		{"autonomous_system_organization"},
		{"traits", "autonomous_system_organization"},
		{"as_organization"},
		{"as_name"},
		{"asn", "name"},
		{"name"},
		{"organization"},
		{"org"},
	} {
		if organization = text(at(record, path)); organization != "" {
			break
		}
	}
	if as == "" {
		return "" // a "name" or "organization" alone may be of anything
	}
	return strings.TrimSpace(as + " " + organization)
}

func at(record map[string]any, path [2]string) any {
	value := record[path[0]]
	if path[1] == "" {
		return value
	}
	inner, _ := value.(map[string]any)
	return inner[path[1]]
}

// asNumber writes 64500, "64500" and "AS64500" as AS64500.
func asNumber(value any) string {
	switch n := value.(type) {
	case uint64:
		if n > 0 && n <= math.MaxUint32 {
			return "AS" + strconv.FormatUint(n, 10)
		}
	case string:
		digits := strings.TrimPrefix(strings.ToUpper(n), "AS")
		if number, err := strconv.ParseUint(digits, 10, 32); err == nil && number > 0 {
			return "AS" + strconv.FormatUint(number, 10)
		}
	}
	return ""
}

// text returns a string fit for a column: somebody registered it somewhere.
func text(value any) string {
	s, _ := value.(string)
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	return clip(strings.TrimSpace(s))
}
