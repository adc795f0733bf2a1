package ir

import (
	"regexp"
	"strings"
)

var technique = regexp.MustCompile(`^attack\.(t\d{4}(\.\d{3})?)$`)

// Techniques are the techniques of MITRE ATT&CK among the tags of a rule, such as T1552.007.
func (m *Meta) Techniques() []string {
	var all []string
	for _, tag := range m.Tags {
		if found := technique.FindStringSubmatch(strings.ToLower(tag)); found != nil {
			all = append(all, strings.ToUpper(found[1]))
		}
	}
	return all
}
