package falco

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// EngineVersion is the version of Falco's engine whose rule language this package reads.
const EngineVersion = "0.60.0"

// plugins are the versions of the plugins whose fields this package knows.
func plugins() map[string]string {
	return map[string]string{
		"k8saudit": "0.18.0", "k8saudit-eks": "0.12.0", "k8saudit-gke": "0.9.0", "k8saudit-aks": "0.6.0",
		"k8saudit-ovh": "0.6.0", "json": "0.7.4",
	}
}

// version is a requirement that is not met. It is a fault only if its file has rules of this source.
type version struct{ fault ir.Fault }

func (c *collector) require(m *item, n *yaml.Node, field, problem, remedy string) {
	c.versions = append(c.versions, version{ir.Fault{Position: m.at(n), Field: field, Problem: problem, Remedy: remedy}})
}

type semver [3]int

func parseSemver(s string) (v semver, ok bool) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) != 3 {
		return v, false
	}
	parts[2] = parts[2][:span(parts[2], isDigit)] // a pre-release or build follows
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return v, false
		}
		v[i] = int(n)
	}
	return v, true
}

// satisfies reports whether v is of the same major version as want, and not older.
func (v semver) satisfies(want semver) bool {
	switch {
	case v[0] != want[0]:
		return false
	case v[1] != want[1]:
		return v[1] > want[1]
	}
	return v[2] >= want[2]
}

func (c *collector) readEngineVersion(m *item) {
	const key = "required_engine_version"
	m.allow(key)
	s, ok := m.scalar(key)
	if !ok {
		return
	}
	text := s.node.Value
	engine, _ := parseSemver(EngineVersion)
	want, ok := parseSemver(text)
	if n, err := strconv.ParseUint(text, 10, 31); err == nil { // n stands for 0.n.0
		want, ok = semver{engine[0], int(n), 0}, true
	}
	switch {
	case !ok:
		m.fault(s.node, key, fmt.Sprintf("%q is no version", text), "write a number or x.y.z")
	case !engine.satisfies(want):
		c.require(m, s.node, key, fmt.Sprintf("the file needs engine %s, this is %s", text, EngineVersion), "use an older version of the rules")
	}
}

func (c *collector) readPluginVersions(m *item) {
	const key = "required_plugin_versions"
	m.allow(key)
	list := m.values[key]
	if list.Kind != yaml.SequenceNode {
		m.fault(list, key, "must be a list, is "+kind(list), "")
		return
	}
	for _, n := range list.Content {
		if p := m.mapping(m.resolve(n), key); p != nil {
			c.readPluginVersion(m, p, key)
		}
	}
}

func (c *collector) readPluginVersion(m, p *item, key string) {
	p.allow("name", "version", "alternatives")
	alternatives := []*item{p}
	if list := p.values["alternatives"]; list != nil && list.Kind == yaml.SequenceNode {
		for _, n := range list.Content {
			if a := m.mapping(m.resolve(n), key); a != nil {
				a.allow("name", "version")
				alternatives = append(alternatives, a)
			}
		}
	} else if list != nil {
		m.fault(list, "alternatives", "must be a list, is "+kind(list), "")
	}
	met, complete := false, true
	var have []string
	seen := map[string]bool{}
	for _, a := range alternatives {
		name, want, ok := m.pluginVersion(a)
		if complete = complete && ok; !ok {
			continue
		}
		if seen[name] {
			m.fault(a.values["name"], key, fmt.Sprintf("the plugin %q stands here twice", name), "keep one version")
			complete = false
		}
		seen[name] = true
		if loaded, ok := plugins()[name]; ok {
			v, _ := parseSemver(loaded)
			met = met || v.satisfies(want)
			have = append(have, name+" "+loaded)
		}
	}
	if met || !complete {
		return
	}
	problem := "none of the plugins is known here"
	if len(have) > 0 {
		problem = "needs another version: this is " + strings.Join(have, ", ")
	}
	c.require(m, p.node, key, problem, "the plugins here are k8saudit and json; use rules written for these versions")
}

func (m *item) pluginVersion(a *item) (name string, want semver, ok bool) {
	s, named := a.scalar("name")
	number, numbered := a.scalar("version")
	if !named || !numbered {
		return "", want, false
	}
	if want, ok = parseSemver(number.node.Value); !ok {
		m.fault(number.node, "version", fmt.Sprintf("%q is no version", number.node.Value), "write x.y.z")
	}
	return s.node.Value, want, ok
}
