package load

import (
	"strings"
	"testing"
	"time"
)

func TestSpanMetadata(t *testing.T) {
	for _, want := range []span{
		{first: 0, last: 0, rows: 1, started: time.UnixMilli(0)},
		{first: 12, last: 345, rows: 6789, started: time.UnixMilli(1_772_366_400_123), careful: true},
	} {
		got, ok, err := parseSpan(want.metadata())
		if err != nil || !ok || got != want {
			t.Errorf("%q gave %+v, %v, %v; want %+v", want.metadata(), got, ok, err, want)
		}
		// Kafka refuses metadata above 4096 bytes by default.
		if len(want.metadata()) > 200 {
			t.Errorf("metadata of %d bytes", len(want.metadata()))
		}
	}
}

func TestForeignMetadata(t *testing.T) {
	for _, metadata := range []string{"", "kgo-1234-member", "-"} {
		if s, ok, err := parseSpan(metadata); ok || err != nil {
			t.Errorf("%q gave %+v, %v, %v; want nothing pending", metadata, s, ok, err)
		}
	}
	for _, metadata := range []string{
		"pending:", "pending:1-2", "pending:2-1:1:1:t", "pending:a-2:1:1:t", "pending:1-2:1:1:x", "pending:1-2:1:1:t:new",
		"pending:-1-2:1:1:t", "pending:1-99999999999999999999:1:1:t",
	} {
		if s, ok, err := parseSpan(metadata); err == nil {
			t.Errorf("%q gave %+v, %v; want an error, since a range may be pending", metadata, s, ok)
		}
	}
}

func TestTokensDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, source := range []string{"cluster/topic-1", "cluster/topic-2"} {
		for _, partition := range []int32{1, 11} {
			for _, s := range []span{{first: 1, last: 2}, {first: 1, last: 3}, {first: 11, last: 2}} {
				token := s.token(source, partition)
				if seen[token] {
					t.Errorf("token %s stands for two ranges", token)
				}
				seen[token] = true
			}
		}
	}
	a := span{first: 1, last: 2, rows: 5, started: time.UnixMilli(1)}
	b := span{first: 1, last: 2, rows: 5, started: time.UnixMilli(2), careful: true}
	if a.token("x", 1) != b.token("x", 1) {
		t.Error("the token of a range depends on when it was inserted")
	}
}

func FuzzParseSpan(f *testing.F) {
	f.Add("pending:1-2:3:4:t")
	f.Add("pending:1-2:3:4:c")
	f.Add("pending:::")
	f.Fuzz(func(t *testing.T, metadata string) {
		s, ok, err := parseSpan(metadata)
		switch {
		case err != nil && ok:
			t.Error("both a range and an error")
		case ok:
			if again, ok, err := parseSpan(s.metadata()); again != s || !ok || err != nil {
				t.Errorf("%q gave %+v, which gave %+v, %v, %v", metadata, s, again, ok, err)
			}
		case err == nil && strings.HasPrefix(metadata, spanPrefix):
			t.Errorf("%q counts as nothing pending", metadata)
		}
	})
}
