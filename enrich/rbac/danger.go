package rbac

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/enrich/context"
)

//go:embed dangerous.yaml
var dangerous []byte

// Danger is a permission that gives more than it seems to.
type Danger struct {
	ID       string `yaml:"id"`
	Severity string `yaml:"severity"` // critical, high, medium, low or info
	Why      string `yaml:"why"`
	Scope    Scope  `yaml:"scope"`
	// Needs are all needed; of each, one of the patterns is enough.
	Needs [][]Pattern `yaml:"needs,omitempty"`
	// Special is set instead of Needs for what is no rule of a role: see the table.
	Special string `yaml:"special,omitempty"`
	On      string `yaml:"on,omitempty"` // eks: in such clusters only
}

// Scope says where a permission has to be held to be dangerous.
type Scope string

// The scopes.
const (
	ScopeAny          Scope = "any"          // anywhere
	ScopeCluster      Scope = "cluster"      // in the whole cluster
	ScopePrivileged   Scope = "privileged"   // in the whole cluster or in a privileged namespace
	ScopeUnprivileged Scope = "unprivileged" // in a namespace that is not privileged
)

// Pattern matches rules that name one of each. "*" is only the wildcard itself, "?" is anything, and a trailing "*"
// anything that begins so; otherwise a rule's wildcard matches too. A rule that is limited to some names matches only
// by one of Names.
type Pattern struct {
	Groups    []string `yaml:"groups"`
	Resources []string `yaml:"resources"`
	Verbs     []string `yaml:"verbs"`
	Names     []string `yaml:"names,omitempty"`
}

// table is the dangerous permissions, and a bit for each need.
type table struct {
	dangers  []Danger
	needs    []mask // of each danger
	patterns [][]Pattern
	critical []bool
}

// mask is a set of needs.
type mask [2]uint64

func (m mask) with(bit int) mask {
	m[bit/64] |= 1 << (bit % 64)
	return m
}

func (m mask) or(o mask) mask { return mask{m[0] | o[0], m[1] | o[1]} }

func (m mask) has(o mask) bool { return m[0]&o[0] == o[0] && m[1]&o[1] == o[1] }

// loadTable returns the embedded table.
//
//nolint:gochecknoglobals // it is read once and never changed
var loadTable = sync.OnceValue(readTable)

// readTable reads the embedded table, whose faults a test finds.
func readTable() *table {
	t := &table{}
	if err := yaml.Unmarshal(dangerous, &t.dangers); err != nil {
		panic(fmt.Sprintf("dangerous.yaml: %v", err))
	}
	for _, d := range t.dangers {
		var m mask
		for _, patterns := range d.Needs {
			m = m.with(len(t.patterns))
			t.patterns = append(t.patterns, patterns)
		}
		t.needs = append(t.needs, m)
		t.critical = append(t.critical, d.Severity == "critical")
	}
	return t
}

// Dangers returns the table of dangerous permissions.
func Dangers() []Danger { return slices.Clone(loadTable().dangers) }

func (p *Pattern) matches(r *context.Rule) bool {
	if len(r.ResourceNames) > 0 && !slices.ContainsFunc(p.Names, func(n string) bool { return slices.Contains(r.ResourceNames, n) }) {
		return false
	}
	return some(p.Groups, r.APIGroups) && some(p.Verbs, r.Verbs) && someResource(p.Resources, r.Resources)
}

// some says whether a rule's list has one of what is wanted.
func some(wanted, list []string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return s == "*" || alike(w, s) })
	})
}

func someResource(wanted, list []string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool {
		return slices.ContainsFunc(list, func(s string) bool {
			if s == "*" || alike(w, s) {
				return true
			}
			_, sub, ok := strings.Cut(w, "/")
			every, star := strings.CutPrefix(s, "*/")
			return ok && star && alike(sub, every)
		})
	})
}

func alike(wanted, s string) bool {
	if prefix, ok := strings.CutSuffix(wanted, "*"); ok && prefix != "" {
		return strings.HasPrefix(s, prefix)
	}
	return wanted == s || wanted == "?"
}

// facts are what is worked out of the rules of a role once.
type facts struct {
	mask  mask // the needs that they meet
	admin bool // everything is allowed on every resource
	reach []reached
}

// facts returns the facts of a role, which may be nil.
func (r *Resolver) factsOf(role *context.Item) *facts {
	if role == nil || role.Object == nil || len(role.Object.Rules) == 0 {
		return &facts{}
	}
	rules := role.Object.Rules
	if f, ok := r.facts.get(&rules[0]); ok {
		return f
	}
	f := &facts{reach: reachOf(rules)}
	for i := range rules {
		for bit, patterns := range r.table.patterns {
			if slices.ContainsFunc(patterns, func(p Pattern) bool { return p.matches(&rules[i]) }) {
				f.mask = f.mask.with(bit)
			}
		}
		f.admin = f.admin || len(rules[i].ResourceNames) == 0 && slices.Contains(rules[i].Verbs, "*") &&
			slices.Contains(rules[i].APIGroups, "*") && slices.Contains(rules[i].Resources, "*")
	}
	r.facts.put(&rules[0], f)
	return f
}

// places are the privileged namespaces of a cluster.
type places struct {
	namespaces []string // sorted
}

func (p *places) has(namespace string) bool {
	_, ok := slices.BinarySearch(p.namespaces, namespace)
	return ok
}

// privileged returns the namespaces from which a cluster can be taken over: kube-system, and those with a service
// account that holds a critical permission in the whole cluster.
func (r *Resolver) privileged(state *context.State) *places {
	if p, ok := r.places.get(state.RBACVersion()); ok {
		return p
	}
	p := &places{namespaces: []string{"kube-system"}}
	for binding := range state.Objects(context.ClusterRoleBinding) {
		role, ok := state.RoleOf(binding)
		if !ok || !r.critical(r.factsOf(role).mask, state) {
			continue
		}
		for _, s := range binding.Object.Subjects {
			if s.Kind == "ServiceAccount" && s.Namespace != "" {
				p.namespaces = append(p.namespaces, s.Namespace)
			}
		}
	}
	slices.Sort(p.namespaces)
	p.namespaces = slices.Compact(p.namespaces)
	if len(r.alike) >= maxPlaces {
		clear(r.alike)
	}
	// Equal ones are one, so that what depends on them stays valid.
	key := strings.Join(p.namespaces, "/")
	if known := r.alike[key]; known != nil {
		p = known
	}
	r.alike[key] = p
	r.places.put(state.RBACVersion(), p)
	return p
}

// critical says whether needs that are met in the whole cluster make a critical permission.
func (r *Resolver) critical(m mask, state *context.State) bool {
	for i, d := range r.table.dangers {
		if r.table.critical[i] && len(d.Needs) > 0 && d.Scope != ScopeUnprivileged && (d.On != "eks" || state.EKS()) && m.has(r.table.needs[i]) {
			return true
		}
	}
	return false
}
