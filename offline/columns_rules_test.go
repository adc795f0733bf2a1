package offline_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/offline"
)

// Rules ask for who and why in every form that docs/rules.md promises. What is not known matches nothing but null.
func TestRulesOnWhoAndWhy(t *testing.T) {
	const known = "actor: alice, team: Payments, namespace_owner: payments, active: true, off_node: false, cluster_admin: true, breadth: 60, " +
		"caller_breadth: 7, dangerous: [read-secrets, pods-exec], grants: ['RoleBinding \"a/b\" of Role \"r\" to User \"alice\" by rule 0'], " +
		"grant_author: alice, grant_since: -15m, minted_at: -16m, rights_age: 5000000, namespace_labels: {env: prod}, source_zone: vpn"
	for _, tt := range []struct {
		item             string
		known, otherwise bool // whether it holds where all this is known, and where nothing is
	}{
		{"active: true", true, false},
		{"active: 'true'", true, false},
		{"active: false", false, false},
		{"off_node: false", true, false},
		{"off_node: null", false, true},
		{"team|exists: true", true, false},
		{"team: payments", true, false},
		{"team|fieldref: namespace_owner", true, false},
		{"team|fieldref|neq: namespace_owner", false, false},
		{"grant_author|fieldref: actor", true, false},
		{"dangerous: pods-exec", true, false},
		{"dangerous: [any-any, read-secrets]", true, false},
		{"dangerous|all: [read-secrets, pods-exec]", true, false},
		{"dangerous|all: [read-secrets, any-any]", false, false},
		{"dangerous: null", false, true},
		{"grants|contains: 'to User'", true, false},
		{"breadth: 60", true, false},
		{"breadth|gte: 60", true, false},
		{"breadth|gt: 60", false, false},
		{"breadth|lt: 61", true, false},
		{"caller_breadth|lt|fieldref: breadth", true, false},
		{"caller_breadth|gte|fieldref: breadth", false, false},
		{"rights_age|lte: 5000000", true, false},
		{"minted_at|lt|fieldref: grant_since", true, false},
		{"grant_since|lt|fieldref: event_time", true, false},
		{"grant_since|lt|fieldref: minted_at", false, false},
		{"grant_since|within: 15m", true, false},
		{"grant_since|within: 899s", false, false},
		{"minted_at|within: 15m", false, false},
		{"minted_at|within: 1h", true, false},
		{"minted_at|exists: true", true, false},
		{"minted_at|year: 2025", true, false},
		{"namespace_labels.env: prod", true, false},
		{"source_zone|startswith: vp", true, false},
	} {
		text := fmt.Sprintf(`title: t
id: 11111111-1111-4111-8111-111111111111
logsource: {product: kubernetes, service: audit}
detection:
  a: {stage: ResponseComplete}
  b:
    %s
  condition: a and b
x-auditmill:
  cases:
    - {case: known, match: %v, event: {}, columns: {%s}}
    - {case: unknown, match: %v, event: {}}
`, tt.item, tt.known, known, tt.otherwise)
		pack, err := rule.Load([]ir.File{{Name: "t.yml", Data: []byte(text)}}, rule.Options{})
		if err != nil {
			t.Errorf("%s: %v", tt.item, err)
			continue
		}
		if blind := pack.Rules[0].Blind; blind != "" {
			t.Errorf("%s: %s", tt.item, blind)
		}
		offline.RunCases(pack, func(r *offline.CaseResult) {
			var why bytes.Buffer
			if r.Why != nil {
				if err := r.Why.Write(&why); err != nil {
					t.Fatal(err)
				}
			}
			if !r.Passed() {
				t.Errorf("%s, %s: %d alerts, %v\n%s", tt.item, r.Case.Name, r.Got, r.Err, why.String())
			}
		})
	}
}

// A deployment whose sources never fill a column says so, and rules that need it are not taken for silent.
func TestAbsentColumnsBlind(t *testing.T) {
	text := `title: t
id: 11111111-1111-4111-8111-111111111111
logsource: {product: kubernetes, service: audit}
detection: {s: {grant_since|within: 15m, grant_author|fieldref: actor}, condition: s}
`
	for _, column := range []string{"grant_since", "grant_author"} {
		pack, err := rule.Load([]ir.File{{Name: "t.yml", Data: []byte(text)}}, rule.Options{Absent: []string{column}})
		if err != nil || pack.Rules[0].Blind == "" {
			t.Errorf("without %s: blind is %q, %v", column, pack.Rules[0].Blind, err)
		}
	}
}
