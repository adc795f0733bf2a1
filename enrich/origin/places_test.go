package origin

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type record = map[string]any

func TestPlaces(t *testing.T) {
	cases := []struct {
		name   string
		record record
		want   place
	}{
		{"GeoLite2 country", record{
			"country": record{"iso_code": "DE", "names": record{"en": "Germany"}}, "registered_country": record{"iso_code": "FR"},
		}, place{country: "DE"}},
		{"registered elsewhere", record{"registered_country": record{"iso_code": "FR"}, "country_code": "de"}, place{country: "DE"}},
		{"ip-location-db country", record{"country_code": "JP"}, place{country: "JP"}},
		{"IPinfo Lite", record{"country": "United States", "country_code": "US", "asn": "AS64500", "as_name": "Example Ltd"}, place{"US", "AS64500 Example Ltd"}},
		{"IPinfo country and ASN", record{"country": "US", "asn": "AS64500", "name": "Example Ltd"}, place{"US", "AS64500 Example Ltd"}},
		{"IPinfo privacy, nested", record{"asn": record{"asn": "AS64501", "name": "Inner"}}, place{network: "AS64501 Inner"}},
		{
			"GeoLite2 ASN",
			record{"autonomous_system_number": uint32(64502), "autonomous_system_organization": "Münchner Netz"},
			place{network: "AS64502 Münchner Netz"},
		},
		{"number alone", record{"autonomous_system_number": uint32(64503)}, place{network: "AS64503"}},
		{"enterprise", record{"traits": record{"autonomous_system_number": uint32(1), "autonomous_system_organization": "X"}}, place{network: "AS1 X"}},
		{"name of who knows what", record{"country_code": "DE", "name": "Berlin"}, place{country: "DE"}},
		{"no code", record{"country": "Germany", "asn": "AS64504"}, place{network: "AS64504"}},
		{"control characters", record{"asn": "AS9", "as_name": "a\x1b[31m\nb\x00" + strings.Repeat("c", 200)}, place{network: "AS9 a[31mb" + strings.Repeat("c", 122)}},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			name := newMMDB().add(t, "192.0.2.0/24", tt.record).add(t, "2001:db8::/32", tt.record).write(t, "x")
			p, err := OpenPlaces([]string{name})
			if err != nil {
				t.Fatal(err)
			}
			for _, address := range []string{"192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "192.0.2.7"} {
				if country, network := p.Lookup(netip.MustParseAddr(address)); (place{country, network}) != tt.want {
					t.Errorf("%s: got %q %q, want %+v", address, country, network, tt.want)
				}
			}
			if country, network := p.Lookup(netip.MustParseAddr("198.51.100.1")); country+network != "" {
				t.Errorf("got %q %q of an address that is not in the file", country, network)
			}
		})
	}
}

// Private addresses have no place, whatever the file says: they are somebody else's in each network.
func TestPlacesPrivate(t *testing.T) {
	all := newMMDB().add(t, "0.0.0.0/1", record{"country_code": "US"}).add(t, "128.0.0.0/1", record{"country_code": "US"}).
		add(t, "8000::/1", record{"country_code": "US"}).write(t, "all")
	p, err := OpenPlaces([]string{all})
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{
		"10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
		"255.255.255.255", "::ffff:10.0.0.1", "fe80::1", "fd00::1", "ff02::1",
	} {
		if country, _ := p.Lookup(netip.MustParseAddr(address)); country != "" {
			t.Errorf("%s is in %s", address, country)
		}
	}
	if country, _ := p.Lookup(netip.MustParseAddr("100.128.0.1")); country != "US" {
		t.Errorf("got %q of a public address", country)
	}
	if country, network := p.Lookup(netip.Addr{}); country+network != "" {
		t.Errorf("got %q %q of no address", country, network)
	}
	if country, network := (*Places)(nil).Lookup(netip.MustParseAddr("8.8.8.8")); country+network != "" {
		t.Errorf("got %q %q of no files", country, network)
	}
}

// The first file that knows counts; a second one fills in what it does not know.
func TestPlacesSeveral(t *testing.T) {
	first := newMMDB().add(t, "192.0.2.0/25", record{"country_code": "DE"}).write(t, "first")
	second := newMMDB().add(t, "192.0.2.0/24", record{"country_code": "FR", "asn": "AS64500"}).write(t, "second")
	p, err := OpenPlaces([]string{first, second})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]place{"192.0.2.1": {"DE", "AS64500"}, "192.0.2.129": {"FR", "AS64500"}} {
		if country, network := p.Lookup(netip.MustParseAddr(address)); (place{country, network}) != want {
			t.Errorf("%s: got %q %q, want %+v", address, country, network, want)
		}
	}
}

func TestPlacesFaults(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile(newMMDB().add(t, "192.0.2.0/24", record{"country_code": "DE"}).write(t, "good"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ path, want string }{
		"missing":    {filepath.Join(dir, "missing.mmdb"), "no such file"},
		"compressed": {file("gz.mmdb", []byte{0x1f, 0x8b, 8, 0}), "decompress it"},
		"text":       {file("text.mmdb", []byte("country,DE")), ".mmdb"},
		"cut":        {file("cut.mmdb", good[:len(good)-40]), "cut.mmdb"},
		"useless":    {newMMDB().add(t, "192.0.2.0/24", record{"domain": "example.com"}).write(t, "domain"), "use a country, city or ASN database"},
		"empty":      {newMMDB().write(t, "none"), "none of 0 records"},
	} {
		_, err := OpenPlaces([]string{tt.path})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
			t.Errorf("%s: got %v, want an error that names the file and says %q", name, err, tt.want)
		}
	}
}

// A file from the internet, whole or not, must not break what reads it.
func FuzzPlaces(f *testing.F) {
	good, err := os.ReadFile(newMMDB().add(f, "192.0.2.0/24", record{"country": record{"iso_code": "DE"}, "asn": "AS64500"}).write(f, "good"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parsePlaces("x.mmdb", data)
		if err != nil {
			return
		}
		p := &Places{files: []*placeFile{file}}
		for _, address := range []string{"192.0.2.1", "2001:db8::1", "8.8.8.8"} {
			if country, network := p.Lookup(netip.MustParseAddr(address)); len(country) > 2 || len(network) > 2*maxNames {
				t.Fatalf("%s is in %q %q", address, country, network)
			}
		}
	})
}

// Only the last of many networks has a record; to find it must not depend on luck.
func TestPlacesSparse(t *testing.T) {
	for _, network := range []string{"223.255.255.255/32", "2a00:1::/32", "0.0.0.0/0", "2000::/3"} {
		if _, err := OpenPlaces([]string{newMMDB().add(t, network, record{"country_code": "DE"}).write(t, "sparse")}); err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
}

// testdata/places.mmdb is for tests of other packages: the documentation ranges, as this test writes them. To write it
// anew, remove it.
func TestPlacesFile(t *testing.T) {
	const name = "testdata/places.mmdb"
	fresh, err := os.ReadFile(newMMDB().
		add(t, "203.0.113.0/24", record{"country_code": "DE", "autonomous_system_number": uint32(64500), "autonomous_system_organization": "Example Ltd"}).
		add(t, "2001:db8::/32", record{"country_code": "JP", "autonomous_system_number": uint32(64501), "autonomous_system_organization": "Example KK"}).
		write(t, "places"))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		if err := os.WriteFile(name, fresh, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("%s was missing and is written anew: run again", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, fresh) {
		t.Errorf("%s is not what this test writes: remove it and run again", name)
	}
}
