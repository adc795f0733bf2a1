package offline

import (
	"fmt"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// Find returns the single-event rule with an id, a name or a title.
func Find(pack *ir.Pack, name string) (*ir.Rule, error) {
	for i := range pack.Rules {
		if r := &pack.Rules[i]; name == r.ID || name == r.Name || strings.EqualFold(name, r.Title) {
			return r, nil
		}
	}
	for i := range pack.Correlations {
		if c := &pack.Correlations[i]; name == c.ID || name == c.Name || strings.EqualFold(name, c.Title) {
			return nil, fmt.Errorf("%q is a correlation: explain one of the rules it counts: %s", name, strings.Join(c.Rules, ", "))
		}
	}
	var titles []string
	for i := range pack.Rules {
		titles = append(titles, pack.Rules[i].Title)
	}
	problem := fmt.Sprintf("there is no rule %q", name)
	if near := ir.Nearest(name, func(yield func(string) bool) {
		for _, t := range titles {
			if !yield(t) {
				return
			}
		}
	}); near != "" {
		problem += fmt.Sprintf("; did you mean %q?", near)
	}
	return nil, fmt.Errorf("%s; auditmill rules list shows all", problem)
}
