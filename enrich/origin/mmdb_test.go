package origin

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// mmdb writes small files in the MaxMind DB format: a tree of 128 bits with IPv4 below ::/96 and records of 24 bits.
type mmdb struct {
	nodes [][2]int // >= 0: a node; empty: nothing; below: -2 - offset of a record
	data  []byte
}

const empty = -1

func newMMDB() *mmdb { return &mmdb{nodes: [][2]int{{empty, empty}}} }

// add gives a network a record; networks must not overlap.
func (m *mmdb) add(t testing.TB, network string, record any) *mmdb {
	t.Helper()
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		t.Fatal(err)
	}
	address, bits := prefix.Addr().As16(), prefix.Bits()
	if prefix.Addr().Is4() {
		v4 := prefix.Addr().As4()
		address, bits = [16]byte{12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}, bits+96
	}
	offset := len(m.data)
	m.data = encode(m.data, record)
	node := 0
	for i := range bits {
		bit := address[i/8] >> (7 - i%8) & 1
		if i == bits-1 {
			m.nodes[node][bit] = -2 - offset
			break
		}
		if m.nodes[node][bit] == empty {
			m.nodes[node][bit] = len(m.nodes)
			m.nodes = append(m.nodes, [2]int{empty, empty})
		}
		node = m.nodes[node][bit]
	}
	return m
}

// write puts the file into a directory of the test.
func (m *mmdb) write(t testing.TB, kind string) string {
	t.Helper()
	var file []byte
	for _, node := range m.nodes {
		for _, to := range node {
			switch {
			case to == empty:
				to = len(m.nodes)
			case to < empty:
				to = len(m.nodes) + 16 + (-2 - to)
			}
			file = append(file, byte(to>>16), byte(to>>8), byte(to))
		}
	}
	file = append(append(file, make([]byte, 16)...), m.data...)
	file = append(file, "\xab\xcd\xefMaxMind.com"...)
	file = encode(file, map[string]any{
		"node_count": uint32(len(m.nodes)), "record_size": uint32(24), "ip_version": uint32(6), "database_type": kind,
		"binary_format_major_version": uint32(2), "binary_format_minor_version": uint32(0), "build_epoch": uint32(1_800_000_000),
		"languages": []any{}, "description": map[string]any{},
	})
	name := filepath.Join(t.TempDir(), kind+".mmdb")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// encode appends a value: a string, a uint32, a map or an array, with less than 29 elements or 285 bytes.
func encode(to []byte, value any) []byte {
	control := func(kind byte, size int) {
		extended := kind > 7
		first := kind << 5
		if extended {
			first = 0
		}
		if size >= 29 {
			to = append(to, first|29)
		} else {
			to = append(to, first|byte(size))
		}
		if extended {
			to = append(to, kind-7)
		}
		if size >= 29 {
			to = append(to, byte(size-29))
		}
	}
	switch v := value.(type) {
	case string:
		control(2, len(v))
		to = append(to, v...)
	case uint32:
		control(6, 4)
		to = binary.BigEndian.AppendUint32(to, v)
	case map[string]any:
		control(7, len(v))
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			to = encode(encode(to, k), v[k])
		}
	case []any:
		control(11, len(v))
		for _, element := range v {
			to = encode(to, element)
		}
	}
	return to
}
