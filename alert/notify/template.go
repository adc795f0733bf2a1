package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// parseTemplate reads a template of Go's text/template from a file and tries it, so that a
// fault is found when the service starts. asJSON says that what it renders must be JSON.
func parseTemplate(path string, asJSON bool) (*template.Template, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("template_file: %w", err)
	}
	t, err := template.New(path).Option("missingkey=error").Funcs(template.FuncMap{
		"upper": strings.ToUpper,
		"json": func(s string) (string, error) {
			b, err := json.Marshal(s)
			return string(b), err
		},
	}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("template_file: %w", err)
	}
	sample := NewMessage(&schemas.Alert{ID: "id", Rule: "rule", Actor: "actor", Command: []string{`"`}, Time: time.Unix(0, 0)})
	out, err := render(t, &sample)
	switch {
	case err != nil:
		return nil, fmt.Errorf("template_file: %w", err)
	case asJSON && !json.Valid([]byte(out)):
		return nil, fmt.Errorf("template_file: %s renders no JSON: put values in with {{json .name}}", path)
	case strings.TrimSpace(out) == "":
		return nil, fmt.Errorf("template_file: %s renders nothing", path)
	}
	return t, nil
}

// maxRendered bounds what a template renders; values are bounded, but it may repeat them.
const maxRendered = 256 << 10

// render executes a template. Its values are texts, printable and without anything that a
// chat would take for markup, a link or a mention: see view.
func render(t *template.Template, m *Message) (string, error) {
	var b bytes.Buffer
	if err := t.Execute(&limited{&b}, view(m)); err != nil {
		return "", fmt.Errorf("rendering a message: %w", err)
	}
	return b.String(), nil
}

type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > maxRendered {
		return 0, errors.New("the template renders too much")
	}
	return l.b.Write(p)
}

// view are the values that a template may use.
func view(m *Message) map[string]string {
	values := map[string]string{
		"kind": string(m.Kind), "severity": m.Severity, "title": m.Title, "summary": m.Summary, "actor": m.Actor,
		"cluster": m.Cluster, "what": m.What, "command": m.Command, "why": m.Why, "source_ip": m.SourceIP,
		"who": m.Who, "source": m.Source, "rights": m.Rights, "credential": m.Credential, "warnings": strings.Join(m.Warnings, "; "),
		"team": "", "namespace_owner": "",
		"user_agent": m.UserAgent, "next": m.Next, "rule": m.Rule, "alert_id": m.ID, "group_id": m.Group,
		"audit_id": m.AuditID, "tags": strings.Join(m.Tags, ", "), "note": m.Note, "when": whenText(m.When),
		"first": whenText(m.First), "last": whenText(m.Last), "count": strconv.FormatUint(m.Count, 10),
		"events": strconv.FormatUint(m.Events, 10),
	}
	if m.Raw != nil {
		values["team"], values["namespace_owner"] = Printable(m.Raw.Team, maxShort), Printable(m.Raw.NamespaceOwner, maxShort)
	}
	for name, value := range values {
		values[name] = inert(value)
	}
	return values
}

// rendered is what the template of a sink makes of a message; "" without one, and for what it
// does not apply to: digests, replies and messages without layout.
func rendered(t *template.Template, m *Message, plain bool) (string, error) {
	if t == nil || plain || m.Digest != nil {
		return "", nil
	}
	text, err := render(t, m)
	if err != nil {
		// It was tried when it was read; without layout the message goes out all the same.
		return "", &Error{Class: Refused, Reason: "template", Err: err}
	}
	return text, nil
}
