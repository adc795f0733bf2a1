package rule

import "github.com/auditmill/auditmill/alert/rule/ir"

// Listed is what a list of rules shows of one.
type Listed struct {
	ID             string   `json:"id"`
	Title          string   `json:"title"`
	Kind           string   `json:"kind"` // event, or the type of a correlation
	Severity       string   `json:"severity"`
	Status         string   `json:"status,omitempty"`
	AuditLevel     string   `json:"audit_level,omitempty"`
	Tags           []string `json:"tags,omitempty"`
	Techniques     []string `json:"techniques,omitempty"` // of MITRE ATT&CK
	Cases          int      `json:"cases"`
	At             string   `json:"at"`               // file, line and column
	Silent         bool     `json:"silent,omitempty"` // feeds correlations only
	CannotEvaluate string   `json:"cannot_evaluate,omitempty"`
	Description    string   `json:"description,omitempty"`
}

// List returns the rules and correlations of a pack in their order.
func List(pack *ir.Pack) []Listed {
	var out []Listed
	for i := range pack.Rules {
		out = append(out, listed(&pack.Rules[i].Meta, "event", pack.Rules[i].Silent))
	}
	for i := range pack.Correlations {
		c := &pack.Correlations[i]
		out = append(out, listed(&c.Meta, string(c.Type), c.Silent))
	}
	return out
}

func listed(m *ir.Meta, kind string, silent bool) Listed {
	l := Listed{
		ID: m.ID, Title: m.Title, Kind: kind, Severity: m.Level, Status: m.Status, AuditLevel: m.AuditLevel, Tags: m.Tags,
		Cases: len(m.Cases), At: m.Position.String(), Silent: silent, CannotEvaluate: m.Blind, Description: m.Description,
	}
	l.Techniques = m.Techniques()
	return l
}
