package offline_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/schemas"
	"github.com/auditmill/auditmill/testdata/recording"
)

// The alerts on single events of the shipped recording, with its people known, are those of a list that was made by hand.
func TestExpectedAlerts(t *testing.T) {
	lines, err := recording.Lines()
	if err != nil {
		t.Fatal(err)
	}
	pack, err := offline.Sources{}.Load()
	if err != nil {
		t.Fatal(err)
	}
	var known offline.Context
	if err := known.AddPeople("people.csv", bytes.NewReader(recording.People()), 1); err != nil {
		t.Fatal(err)
	}
	if err := known.AddRanges("networks.txt", bytes.NewReader(recording.Networks()), 1); err != nil {
		t.Fatal(err)
	}
	expected, err := rules.ExpectedAlerts()
	if err != nil {
		t.Fatal(err)
	}
	var hasher schemas.Hasher
	lineOf := map[string]int{}
	for i, line := range lines {
		lineOf[hasher.EventID("prod", line).String()] = i + 1
	}
	titles := map[string]string{}
	for i := range pack.Rules {
		titles[pack.Rules[i].ID] = pack.Rules[i].Title
	}
	var want, got []string
	for _, e := range expected {
		want = append(want, fmt.Sprintf("%4d %s", e.Line, titles[e.Rule]))
	}
	raised, err := offline.Raise(t.Context(), pack, offline.Recorded(lines, known, "prod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range raised.Arrived {
		if titles[a.Rule] != "" {
			got = append(got, fmt.Sprintf("%4d %s", lineOf[a.EventID], titles[a.Rule]))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-expected +raised:\n%s", d)
	}
}
