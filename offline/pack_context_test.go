package offline_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/offline/access"
	"github.com/auditmill/auditmill/schemas"
)

// TestGroundTruthWithContext holds the pack to the labelled recording where who and why are known: from a dump of the cluster before
// it and from its own events. Rules that look at them must not take ordinary work for an attack.
func TestGroundTruthWithContext(t *testing.T) {
	labels, _ := readLabels(t)
	recording := groundTruth + "recording.jsonl.gz"
	store, err := access.Load(t.Context(), "prod", access.Sources{Dumps: []string{groundTruth + "context-before"}, Events: []string{recording}}, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	pack, err := offline.Sources{Lists: []string{"../alert/rules/testdata/recording.lists.yaml"}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	type request struct{ id, user string }
	byEvent := map[string]request{}
	joiner := enrich.NewJoiner(store, nil)
	alerts, err := offline.Raise(t.Context(), pack, func(ctx context.Context, yield func(arrow.RecordBatch, func(int) offline.Origin) error) error {
		return offline.ReadRows(ctx, []string{recording}, "prod", func(e *schemas.Event) {
			joiner.Join(e)
			byEvent[e.EventID.String()] = request{strings.Clone(e.AuditID), strings.Clone(e.User)}
		}, func(batch arrow.RecordBatch, rows []offline.Origin) error {
			return yield(batch, func(row int) offline.Origin { return rows[row] })
		}, func(offline.Bad) {})
	})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for i := range pack.Rules {
		files[pack.Rules[i].ID] = pack.Rules[i].Position.File
	}
	for i := range pack.Correlations {
		files[pack.Correlations[i].ID] = pack.Correlations[i].Position.File
	}
	seen, noise := map[string]map[string]int{}, map[string]int{}
	for _, a := range slices.Concat(slices.Collect(maps.Values(alerts.Arrived)), slices.Collect(maps.Values(alerts.Decided))) {
		_, rule, _ := strings.Cut(strings.TrimSuffix(files[a.Rule], ".yml"), "/")
		labelled := false
		for _, id := range a.EventIDs {
			l, ok := labels[byEvent[id].id]
			if !ok {
				continue
			}
			labelled = true
			if l.class == "lookalike" && (a.Severity == "high" || a.Severity == "critical") {
				t.Errorf("%s matches what is none of it: %s", rule, l.attack)
			}
			if seen[rule] == nil {
				seen[rule] = map[string]int{}
			}
			seen[rule][l.class+" "+l.attack]++
		}
		if !labelled && len(a.EventIDs) > 0 {
			noise[a.Severity+" "+rule+" by "+kind(byEvent[a.EventIDs[0]].user)]++
		}
	}
	var table strings.Builder
	for _, rule := range contextRules() {
		fmt.Fprintf(&table, "%-36s %v\n", rule, seen[rule])
		for _, severity := range []string{"low", "medium", "high"} {
			for _, who := range []string{"the installer", "the control plane or a node", "a person or an application"} {
				what := rule + " by " + who
				if n := noise[severity+" "+what]; n > 0 {
					fmt.Fprintf(&table, "    without a label: %d %s by %s\n", n, severity, who)
					if severity != "low" {
						t.Errorf("%s matches %d ordinary requests", what, n)
					}
				}
			}
		}
	}
	for rule, attack := range map[string]string{
		"requested-token-used": "attack sa-token-mint", "right-of-everybody-used": "attack anonymous-access-granted",
		"person-with-all-rights": "attack cluster-admin-binding",
	} {
		if seen[rule][attack] == 0 {
			t.Errorf("%s does not see the %s", rule, attack)
		}
	}
	t.Logf("what rules on who and why say of the recording\n%s", table.String())
}

// contextRules are the rules that say nothing unless who or why is known.
func contextRules() []string {
	return []string{
		"token-used-off-its-node", "requested-token-used", "leaver-acts", "own-grant-used", "reason-disagrees", "person-with-all-rights",
		"right-of-everybody-used", "impersonation-without-grant", "impersonated-to-all-rights", "namespace-of-another-team",
		"person-from-new-country", "service-account-from-new-zone", "secrets-right-first-used",
	}
}
