package notify

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestTemplates(t *testing.T) {
	texts := map[string]string{
		typeSlack: "*{{.severity}}* {{.actor}} did {{.what}}", typeWebhook: `{"text": {{json .actor}}}`,
		typePagerDuty: "{{upper .severity}} {{.actor}}", typeAlertmanager: "{{.count}} {{.actor}}",
	}
	o := newOtherSides()
	c := DefaultConfig()
	o.option()(&c, &Deps{})
	c.Receivers = append(c.Receivers, ReceiverConfig{Name: "s", Type: typeSlack, URL: "https://slack.test/"})
	m := NewMessage(hostileAlert())
	for _, rc := range c.Receivers {
		rc.Template = t.TempDir() + "/t.tmpl"
		writeFile(t, rc.Template, texts[rc.Type])
		r, err := rc.receiver(c, &http.Client{Transport: o})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.sink.Post(t.Context(), &m, false); err != nil {
			t.Fatal(err)
		}
		host, _, _ := strings.Cut(strings.TrimPrefix(rc.URL.Reveal(), "https://"), "/")
		body := o.requests(host)[0].body
		if !json.Valid(body) || !strings.Contains(string(body), "∗b∗ _i_") {
			t.Errorf("%s: got %s", rc.Type, body)
		}
		if rc.Type != typeSlack {
			checkInert(t, rc.Type, body)
		} else if !strings.Contains(string(body), "*medium* ∗b∗") || strings.Contains(string(body), `"*Actor*`) {
			t.Errorf("the body is not the template's: %s", body)
		}
	}
}

func TestFaultyTemplates(t *testing.T) {
	for name, tt := range map[string]struct {
		text, want string
		json       bool
	}{
		"syntax": {text: "{{.actor", want: "template_file: "}, "unknown value": {text: "{{.nobody}}", want: "nobody"},
		"no JSON": {text: `{"a": "{{.command}}"}`, want: "no JSON", json: true}, "empty": {text: " ", want: "nothing"},
		"endless": {text: `{{define "x"}}{{.actor}}{{template "x" .}}{{end}}{{template "x" .}}`, want: "template_file: "},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/t.tmpl"
			writeFile(t, path, tt.text)
			if _, err := parseTemplate(path, tt.json); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	if _, err := parseTemplate(t.TempDir()+"/none", false); err == nil {
		t.Error("a file that is not there is a template")
	}
}
