package rbac

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/schemas"
)

// Alerts say in words what the ids of the table mean, and services do not import each other: both have the same words.
func TestAlertsHaveTheWordsOfTheTable(t *testing.T) {
	var want []schemas.Danger
	for _, d := range Dangers() {
		want = append(want, schemas.Danger{ID: d.ID, Severity: d.Severity, Why: d.Why})
	}
	if d := cmp.Diff(want, schemas.Dangers()); d != "" {
		t.Errorf("schemas/danger.go is not what dangerous.yaml says (-table +words):\n%s", d)
	}
}
