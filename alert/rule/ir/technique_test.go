package ir

import (
	"slices"
	"testing"
)

func TestTechniques(t *testing.T) {
	m := Meta{Tags: []string{"attack.credential-access", "attack.t1528", "ATTACK.T1552.007", "attack.t15", "cve.2020-8554", "attack.t15281"}}
	if got, want := m.Techniques(), []string{"T1528", "T1552.007"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
