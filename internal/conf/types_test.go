package conf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestBytes(t *testing.T) {
	tests := []struct {
		in   string
		want Bytes
		out  string
		ok   bool
	}{
		{"0", 0, "0B", true},
		{"64MiB", 64 * MiB, "64MiB", true},
		{" 1.5 GiB ", 1536 * MiB, "1536MiB", true},
		{"500kB", 500_000, "500000B", true},
		{"1025", 1025, "1025B", true},
		{"2TiB", 2 * TiB, "2TiB", true},
		{in: "64Mi"},
		{in: "-1MiB"},
		{in: ""},
		{in: "MiB"},
		{in: "NaN"},
		{in: "1e30TiB"},
	}
	for _, tt := range tests {
		var got Bytes
		err := got.UnmarshalText([]byte(tt.in))
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("%q: got %d, error %v, want %d, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
		if tt.ok && got.String() != tt.out {
			t.Errorf("%q: printed as %s, want %s", tt.in, got, tt.out)
		}
	}
}

func TestDuration(t *testing.T) {
	tests := []struct {
		in, out string
		want    time.Duration
		ok      bool
	}{
		{"100ms", "100ms", 100 * time.Millisecond, true},
		{"7d", "168h", 168 * time.Hour, true},
		{"1d12h", "36h", 36 * time.Hour, true},
		{"90s", "1m30s", 90 * time.Second, true},
		{"5m", "5m", 5 * time.Minute, true},
		{"0s", "0s", 0, true},
		{in: "10"},
		{in: ""},
		{in: "999999999999d"},
		{in: "106751d2147483647h"},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.in)
		if (err == nil) != tt.ok || tt.ok && got != tt.want {
			t.Errorf("%q: got %v, error %v, want %v, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
		if tt.ok && formatDuration(got) != tt.out {
			t.Errorf("%q: printed as %s, want %s", tt.in, formatDuration(got), tt.out)
		}
	}
}

func TestSecretIsMasked(t *testing.T) {
	const plain = "hunter2"
	v := struct{ Token Secret }{plain}
	var out bytes.Buffer
	for _, format := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, format+"\n", v.Token)
		fmt.Fprintf(&out, format+"\n", v)
	}
	j, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(append(j, y...))
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "a", v.Token, "b", v)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "a", v.Token, "b", v)
	for _, bad := range []string{plain, "68756e74657232", "68756E74657232"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("the secret is visible as %s in:\n%s", bad, out.String())
		}
	}
	if v.Token.Reveal() != plain || Secret("").String() != "" {
		t.Error("Reveal or the empty secret is wrong")
	}
}

func FuzzBytes(f *testing.F) {
	f.Add("64MiB")
	f.Add("1.5 kB")
	f.Fuzz(func(t *testing.T, s string) {
		var b, again Bytes
		if b.UnmarshalText([]byte(s)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil {
			t.Fatalf("%q gives %s, which is refused: %v", s, b, err)
		}
		if diff := b - again; b < 0 || diff > 1024 || diff < -1024 {
			t.Errorf("%q: got %d, read back %d", s, b, again)
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add("kafka: {brokers: [a, b]}\ningest:\n  clusters: [{name: a, token: b}]\n")
	f.Add("a: &a {b: *a}\n<<: *a\n")
	f.Add("kafka: &a\n  <<: *a\n  client_id: x\n")
	f.Add("kafka:\n  ? [x]\n  : y\n")
	f.Fuzz(func(t *testing.T, s string) {
		// Whatever the file holds: a configuration or an error, never a panic.
		_, err := Load(testDefaults(), Options{File: writeFile(t, "f.yaml", s)})
		if err != nil && err.Error() == "" {
			t.Error("an error says nothing")
		}
	})
}
