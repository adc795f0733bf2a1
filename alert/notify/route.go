package notify

import (
	"fmt"
	"slices"

	"github.com/auditmill/auditmill/schemas"
)

// RouteConfig says which receivers are told of which alerts.
type RouteConfig struct {
	Match     Match    `mapstructure:"match" doc:"which alerts; what is not given matches all"`
	Receivers []string `mapstructure:"receivers" doc:"names of the receivers that are told; default is that of the section alert.slack; an empty list tells nobody"`
	Continue  bool     `mapstructure:"continue" doc:"whether the routes after this one are looked at too"`
}

// Match selects alerts. Everything that is given must match; of a list one pattern must. A
// pattern may hold * for any characters and ? for one.
type Match struct {
	Severity   string   `mapstructure:"severity" doc:"least severity: informational, low, medium, high or critical"`
	Clusters   []string `mapstructure:"clusters" doc:"patterns of the cluster, such as prod-*"`
	Namespaces []string `mapstructure:"namespaces" doc:"patterns of the namespace of the object"`
	Actors     []string `mapstructure:"actors" doc:"patterns of the actor"`
	Teams      []string `mapstructure:"teams" doc:"patterns of the actor's team, where the identity tables or the owner of its namespace give one"`
	Owners     []string `mapstructure:"owners" doc:"patterns of the owner of the object's namespace, where its labels or annotations name one"`
	People     []string `mapstructure:"people" doc:"patterns of the person: e-mail address, name or actor"`
	Rules      []string `mapstructure:"rules" doc:"patterns of the rule's id"`
	Tags       []string `mapstructure:"tags" doc:"patterns of the rule's tags, such as attack.credential-access"`
}

func (m Match) validate() (errs []error) {
	if m.Severity != "" && severity(m.Severity) != m.Severity {
		errs = append(errs, fmt.Errorf("match.severity: must be informational, low, medium, high or critical, is %q", m.Severity))
	}
	for _, list := range []struct {
		key      string
		patterns []string
	}{
		{"clusters", m.Clusters},
		{"namespaces", m.Namespaces},
		{"actors", m.Actors},
		{"teams", m.Teams},
		{"owners", m.Owners},
		{"people", m.People},
		{"rules", m.Rules},
		{"tags", m.Tags},
	} {
		for i, p := range list.patterns {
			if p == "" {
				errs = append(errs, fmt.Errorf("match.%s[%d]: must not be empty", list.key, i))
			}
		}
	}
	return errs
}

func (m Match) matches(a *schemas.Alert) bool {
	if m.Severity != "" && rank(a.Severity) > rank(m.Severity) {
		return false
	}
	return matchAny(m.Clusters, a.Cluster) && matchAny(m.Namespaces, a.Namespace) && matchAny(m.Actors, a.Actor) &&
		matchAny(m.Teams, known(a.Team, a.Values["team"])...) && matchAny(m.Owners, known(a.NamespaceOwner)...) &&
		matchAny(m.People, known(a.Email, a.DisplayName, a.Actor)...) && matchAny(m.Rules, a.Rule) && matchAny(m.Tags, a.Tags...)
}

// known leaves out what is empty: not even * matches what is not known.
func known(values ...string) []string {
	return slices.DeleteFunc(values, func(v string) bool { return v == "" })
}

// matchAny reports whether some value matches some pattern; no patterns match everything.
func matchAny(patterns []string, values ...string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		for _, v := range values {
			if glob(p, v) {
				return true
			}
		}
	}
	return false
}

// glob reports whether s matches a pattern with * and ?, in linear time for each *.
func glob(pattern, s string) bool {
	p, text := []rune(pattern), []rune(s)
	i, j, star, mark := 0, 0, -1, 0
	for j < len(text) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == text[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// validateRouting reports every fault of receivers and routes.
func (c Config) validateRouting() (errs []error) {
	names := []string{DefaultReceiver}
	for i, r := range c.Receivers {
		for _, err := range r.validate() {
			errs = append(errs, fmt.Errorf("receivers[%d].%w", i, err))
		}
		if slices.Contains(names, r.Name) && r.Name != DefaultReceiver {
			errs = append(errs, fmt.Errorf("receivers[%d].name: %q is there twice", i, r.Name))
		}
		names = append(names, r.Name)
	}
	for i, r := range c.Routes {
		for _, err := range r.Match.validate() {
			errs = append(errs, fmt.Errorf("routes[%d].%w", i, err))
		}
		for k, name := range r.Receivers {
			if !slices.Contains(names, name) {
				errs = append(errs, fmt.Errorf("routes[%d].receivers[%d]: no receiver has the name %q; there are %q", i, k, name, names))
			}
		}
	}
	return errs
}

// router says who is to be told of an alert.
type router struct {
	routes []RouteConfig
	names  []string // of all receivers
	// otherwise are told of what no route matches.
	otherwise []string
}

func newRouter(c Config, names []string) *router {
	r := &router{routes: c.Routes, names: names, otherwise: names}
	if slices.Contains(names, DefaultReceiver) {
		r.otherwise = []string{DefaultReceiver}
	}
	return r
}

// receivers returns the names of those who are to be told of an alert.
func (r *router) receivers(a *schemas.Alert) []string {
	if a.Rule == RuleUndelivered {
		// Whoever still can be told, but not the one that it is about.
		return slices.DeleteFunc(slices.Clone(r.names), func(name string) bool { return name == a.Values["receiver"] })
	}
	var out []string
	matched := false
	for _, route := range r.routes {
		if !route.Match.matches(a) {
			continue
		}
		matched = true
		for _, name := range route.Receivers {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
		if !route.Continue {
			break
		}
	}
	if !matched {
		return slices.Clone(r.otherwise)
	}
	return out
}
