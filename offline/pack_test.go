package offline_test

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/schemas"
)

// TestShippedCases runs what every shipped rule says of itself.
func TestShippedCases(t *testing.T) {
	pack, err := offline.Sources{}.Load()
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	offline.RunCases(pack, func(r *offline.CaseResult) {
		cases++
		if r.Passed() {
			return
		}
		var why bytes.Buffer
		if r.Why != nil {
			if err := r.Why.Write(&why); err != nil {
				t.Fatal(err)
			}
		}
		t.Errorf("%s: %s: %d alerts, want %d, %v\n%s", r.Case.Position, r.Case.Name, r.Got, r.Case.Alerts, r.Err, why.String())
	})
	if cases < 600 {
		t.Errorf("only %d cases", cases)
	}
}

const groundTruth = "../../shared/data/kube/"

// label says what a recorded request is known to be.
type label struct{ class, attack string }

// verdict is what the pack says about a recording whose requests are labelled.
type verdict struct {
	caught map[label]map[string][]string // by label and audit id: the names of the rules
	noise  map[string]int                // alerts of high and critical rules on requests without a label, by rule and kind of caller
}

// TestGroundTruth holds the pack to a recording in which attacks, and requests that look like attacks, are known.
func TestGroundTruth(t *testing.T) {
	labels, total := readLabels(t)
	v := judge(t, labels)

	var table strings.Builder
	fmt.Fprintf(&table, "%-10s %-40s %8s  %s\n", "class", "attack", "requests", "rules")
	for _, l := range slices.SortedFunc(maps.Keys(total), func(a, b label) int {
		return strings.Compare(a.class+a.attack, b.class+b.attack)
	}) {
		names := map[string]bool{}
		for _, rules := range v.caught[l] {
			for _, name := range rules {
				names[name] = true
			}
		}
		fmt.Fprintf(&table, "%-10s %-40s %3d of %3d  %s\n", l.class, l.attack, len(v.caught[l]), total[l], strings.Join(slices.Sorted(maps.Keys(names)), " "))
		if l.class == "attack" && len(v.caught[l]) < atLeast(l.attack, total[l]) {
			t.Errorf("%s: %d of %d requests are seen, want %d", l.attack, len(v.caught[l]), total[l], atLeast(l.attack, total[l]))
		}
		for name := range names {
			if severity, _, _ := strings.Cut(name, ":"); l.class == "lookalike" && (severity == "high" || severity == "critical") {
				t.Errorf("%s matches requests that are none of it: %s", name, l.attack)
			}
		}
	}
	t.Logf("what the pack says of labelled requests\n%s", table.String())
	t.Logf("high and critical alerts on requests without a label: %v", v.noise)
	for what, n := range v.noise {
		rule, who, _ := strings.Cut(what, " by ")
		// The installer makes at the beginning of the recording what the rules are about.
		if limit := map[string]int{"the installer": 6, "the control plane or a node": 0, "a person or an application": 1}[who]; n > limit {
			t.Errorf("%s matches %d ordinary requests by %s, %d are the limit", rule, n, who, limit)
		}
	}
}

// atLeast is how many requests of an attack must be seen. Most attacks are seen whole; where they are not, this says why.
func atLeast(attack string, all int) int {
	if n, ok := map[string]int{
		"oversize-event":            1, // large bodies and addresses: nothing but their size is wrong
		"source-ip-spoof":           0, // the peer itself is a local proxy, so any first hop is possible; each is refused
		"audit-id-reuse":            1, // an identifier of valid form: only that two requests have it is wrong
		"audit-id-garbage":          7,
		"user-agent-tricks":         7, // emoji, and the user agent of a library
		"permission-recon":          20,
		"forbidden-burst":           25,
		"bad-token-burst":           20,
		"anonymous-probing":         6,
		"bulk-delete":               4,
		"log-injection":             2, // one is in the annotations of an ordinary pod
		"csr-system-nodes":          4,
		"cluster-admin-binding":     5,
		"aggregated-role-injection": 1, // the right is used as any other
	}[attack]; ok {
		return n
	}
	return all
}

func readLabels(t *testing.T) (byID map[string]label, total map[label]int) {
	t.Helper()
	file, err := os.Open(groundTruth + "groundtruth.tsv")
	if err != nil {
		t.Skip("there is no labelled recording beside the repository: ", err)
	}
	defer file.Close()
	r := csv.NewReader(file)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	byID, total = map[string]label{}, map[label]int{}
	for _, row := range rows[1:] {
		if _, ok := byID[row[0]]; ok || len(row) < 3 {
			continue
		}
		l := label{row[1], row[2]}
		byID[row[0]] = l
		total[l]++
	}
	return byID, total
}

func judge(t *testing.T, labels map[string]label) verdict {
	t.Helper()
	lines, err := ruletest.Recording(groundTruth + "recording.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	type request struct{ id, user string }
	var hasher schemas.Hasher
	requests, byEvent := make([]request, len(lines)), map[string]int{}
	for i, raw := range lines {
		e, err := ruletest.Event("", raw)
		if err != nil {
			t.Fatal(err)
		}
		requests[i] = request{e.AuditID, e.User}
		id := hasher.EventID("", raw)
		byEvent[hex.EncodeToString(id[:])] = i
	}
	pack, err := offline.Sources{Lists: []string{"../alert/rules/testdata/recording.lists.yaml"}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	v := verdict{caught: map[label]map[string][]string{}, noise: map[string]int{}}
	_, err = offline.MatchFiles(t.Context(), pack, offline.MatchAll, []string{groundTruth + "recording.jsonl.gz"}, offline.Context{}, func(m *offline.Match) error {
		at := []int{m.Line - 1}
		for _, id := range m.EventIDs {
			if i, ok := byEvent[id]; ok {
				at = append(at, i)
			}
		}
		labelled := false
		for _, i := range at {
			l, ok := labels[requests[i].id]
			if !ok {
				continue
			}
			labelled = true
			if v.caught[l] == nil {
				v.caught[l] = map[string][]string{}
			}
			v.caught[l][requests[i].id] = append(v.caught[l][requests[i].id], m.Severity+":"+fileName(m))
		}
		if !labelled && (m.Severity == "high" || m.Severity == "critical") {
			v.noise[fileName(m)+" by "+kind(requests[at[0]].user)]++
		}
		return nil
	}, func(offline.Bad) {})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func kind(user string) string {
	switch {
	case user == "kubernetes-admin":
		return "the installer"
	case strings.HasPrefix(user, "system:serviceaccount:kube-system:"), !strings.HasPrefix(user, "system:serviceaccount:") && strings.HasPrefix(user, "system:"):
		return "the control plane or a node"
	}
	return "a person or an application"
}

func fileName(m *offline.Match) string {
	_, name, _ := strings.Cut(m.RuleFile, "/")
	name, _, _ = strings.Cut(name, ".yml")
	return name
}
