package conf

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Sizes in bytes.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

// Bytes is a size. It is written with a unit ("64MiB", "1 GiB", "500kB") or as a plain
// number of bytes.
type Bytes int64

// UnmarshalText parses a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, ok := byteUnit(strings.TrimSpace(s[len(digits):]))
	if !ok {
		return fmt.Errorf("%q is no size: the unit must be one of B, kB, MB, GB, TB, KiB, "+
			"MiB, GiB or TiB", s)
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 || math.IsNaN(n) {
		return fmt.Errorf("%q is no size: write it like 64MiB", s)
	}
	if n*float64(unit) >= math.MaxInt64 {
		return fmt.Errorf("%q is too large", s)
	}
	*b = Bytes(n * float64(unit))
	return nil
}

func byteUnit(s string) (Bytes, bool) {
	switch strings.ToLower(s) {
	case "", "b":
		return 1, true
	case "kb":
		return 1e3, true
	case "mb":
		return 1e6, true
	case "gb":
		return 1e9, true
	case "tb":
		return 1e12, true
	case "kib":
		return KiB, true
	case "mib":
		return MiB, true
	case "gib":
		return GiB, true
	case "tib":
		return TiB, true
	}
	return 0, false
}

// MarshalText writes the size with the largest binary unit that loses nothing.
func (b Bytes) MarshalText() ([]byte, error) {
	return []byte(b.String()), nil
}

// String writes the size with the largest binary unit that loses nothing.
func (b Bytes) String() string {
	for _, u := range []struct {
		size Bytes
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// mask stands for a secret in everything that is printed.
const mask = "***"

// Secret is a value that must not be seen: everything that prints it prints a mask. A
// secret with the key "token" is given in the file or the environment, or as the path of a
// file that holds it with the key "token_file"; never on the command line, where other
// users of the machine could read it.
type Secret string

// Reveal returns the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String masks the secret; it is empty when the secret is.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format masks the secret for every verb of package fmt, %x and wrong ones included.
func (s Secret) Format(w fmt.State, verb rune) {
	out := s.String()
	if verb == 'q' || verb == 'v' && w.Flag('#') {
		out = strconv.Quote(out)
	}
	_, _ = io.WriteString(w, out)
}

// MarshalText masks the secret in JSON and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML masks the secret.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue masks the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// UnmarshalText takes the secret as it is, but refuses the mask, which is what one gets by
// copying the output of "auditmill config".
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == mask {
		return errors.New("is masked: give the secret itself, or its file")
	}
	*s = Secret(text)
	return nil
}

var daysPattern = regexp.MustCompile(`^([0-9]+)d(.*)$`)

// ParseDuration is time.ParseDuration that also knows days: "7d", "1d12h".
func ParseDuration(s string) (time.Duration, error) {
	var days time.Duration
	rest := s
	if m := daysPattern.FindStringSubmatch(s); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || n > math.MaxInt64/int64(24*time.Hour) {
			return 0, fmt.Errorf("%q is too long for a duration", s)
		}
		days, rest = time.Duration(n)*24*time.Hour, m[2]
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: write it like 100ms, 5s, 2h or 7d", s)
	}
	if days > 0 && days+d < days {
		return 0, fmt.Errorf("%q is too long for a duration", s)
	}
	return days + d, nil
}

// formatDuration is the inverse of ParseDuration, without the zero parts that
// time.Duration.String writes ("1h0m0s").
func formatDuration(d time.Duration) string {
	s := d.String()
	if d%time.Minute == 0 && d != 0 {
		s = strings.TrimSuffix(s, "0s")
		if d%time.Hour == 0 {
			s = strings.TrimSuffix(s, "0m")
		}
	}
	return s
}
