package rule

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// markBlind says of each rule that the data of the deployment can never satisfy why that is so, of
// correlations too, if the rules that they count cannot match. It notes what a rule asks for in vain among
// other things.
func markBlind(pack *ir.Pack, o Options) {
	recorded := slices.Index(ir.AuditLevels(), o.AuditLevel)
	if recorded < 0 {
		recorded = len(ir.AuditLevels()) - 1
	}
	blind := map[string]string{}
	for i := range pack.Rules {
		r := &pack.Rules[i]
		if r.Blind == "" {
			r.Blind = blindness(r, recorded, o.Absent)
		}
		if r.Blind != "" {
			blind[r.ID] = r.Blind
		}
		pack.Notes = append(pack.Notes, unknownVerbs(r)...)
	}
	// Correlations may count others, in any order: what is found in one pass may blind one before it.
	for range pack.Correlations {
		for i := range pack.Correlations {
			c := &pack.Correlations[i]
			if c.Blind == "" {
				c.Blind = blindCorrelation(c, blind)
			}
			if c.Blind != "" {
				blind[c.ID] = c.Blind
			}
		}
	}
}

func blindness(r *Rule, recorded int, absent []string) string {
	have := ir.AuditLevels()[recorded]
	if slices.Index(ir.AuditLevels(), r.AuditLevel) > recorded {
		return fmt.Sprintf("the rule needs audit level %s, and no more than %s is recorded", r.AuditLevel, have)
	}
	leaf := ir.Blocker(r.Condition, func(f ir.Field) bool {
		return slices.Index(ir.AuditLevels(), f.Level()) > recorded
	}, nil)
	if leaf != nil {
		f := ir.FieldOf(leaf)
		return fmt.Sprintf("%s is recorded at audit level %s, and no more than %s is recorded", f.Name, f.Level(), have)
	}
	if leaf = ir.Blocker(r.Condition, func(f ir.Field) bool { return slices.Contains(absent, f.Column) }, nil); leaf != nil {
		return fmt.Sprintf("%s is never there in the sources of this deployment", ir.FieldOf(leaf).Name)
	}
	if leaf = ir.Blocker(r.Condition, func(ir.Field) bool { return false }, neverNumber); leaf != nil {
		return fmt.Sprintf("%s is a number, which none of the values is", ir.FieldOf(leaf).Name)
	}
	return ""
}

var wholeNumber = regexp.MustCompile(`^-?[0-9]+$`)

// neverNumber reports whether t asks a column of numbers for words alone.
func neverNumber(t *ir.Test) bool {
	isNumber := t.Field.Type == schemas.TypeUint16 || t.Field.Type == schemas.TypeInt32 || t.Field.Type == schemas.TypeInt64
	if t.Field.Source != ir.Column || !isNumber || t.Missing || t.Null || t.Empty {
		return false
	}
	return len(t.AnyOf) > 0 && !slices.ContainsFunc(t.AnyOf, func(m ir.Match) bool {
		text, ok := m.(ir.Text)
		return !ok || len(text.Parts) != 1 || text.Parts[0].Wild != ir.NotWild || wholeNumber.MatchString(text.Parts[0].Literal)
	})
}

// blindCorrelation says why a correlation can never raise an alert: some kinds need all their rules, others one.
func blindCorrelation(c *ir.Correlation, blind map[string]string) string {
	why, missing := "", 0
	for _, id := range c.Rules {
		if reason, ok := blind[id]; ok {
			missing++
			why = fmt.Sprintf("the rule %s cannot match: %s", id, reason)
		}
	}
	all := c.Type == ir.TemporalOrdered || c.Type == ir.Temporal && len(c.Condition) == 0
	if missing == len(c.Rules) || all {
		return why
	}
	return ""
}

// unknownVerbs notes verbs that no request for a resource has. Published rules name replace, which is update.
func unknownVerbs(r *Rule) (notes []ir.Note) {
	ir.Tests(r.Condition, func(t *ir.Test) {
		if t.Field.Source != ir.Column || t.Field.Column != "verb" {
			return
		}
		for _, m := range t.AnyOf {
			if text, ok := m.(ir.Text); ok && len(text.Parts) == 1 && text.Parts[0].Literal == "replace" {
				notes = append(notes, ir.Note{
					Position: t.Position, Rule: r.ID, Text: "no request for a resource has the verb replace: replacing is update",
				})
			}
		}
	})
	return notes
}
