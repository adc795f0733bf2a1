package ir

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	fields := NewFields()
	for name, want := range map[string]string{
		"resource":                             `resource`,
		"objectRef.resource":                   `objectRef/resource`,
		"user":                                 `user`,
		"user.username":                        `user/username`,
		"username":                             `user/username`,
		"annotations":                          `annotations`,
		"annotations.a.b/c":                    `annotations["a.b/c"]`,
		"user.extra.scopes":                    `extra["scopes"]`,
		"extra.scopes":                         `extra["scopes"]`,
		"stageTimestamp":                       `raw ["stageTimestamp"]`,
		"stage_time":                           `stage_time`,
		"requestObject.spec.a":                 `raw ["requestObject" "spec" "a"]`,
		"requestObject.metadata.labels.a.b/c":  `raw ["requestObject" "metadata" "labels" "a.b/c"]`,
		`requestObject.x\.y.z`:                 `raw ["requestObject" "x.y" "z"]`,
		"responseStatus.details.causes.reason": `raw ["responseStatus" "details" "causes" "reason"]`,
		"hostPath":                             `raw ["requestObject" "spec" "volumes" "hostPath"]`,
		"annotations.authorization.k8s.io/decision": `annotations/authorization.k8s.io/decision`,

		"objectRef.nothing":      "",
		"requestObject.":         "",
		"requestObject.a[0]":     "",
		"annotations.":           "",
		"requestObjectMistyped.": "",
		"":                       "",
	} {
		field, ok := fields.Resolve(name)
		if got := field.String(); ok != (want != "") || ok && got != want && field.Column != want {
			t.Errorf("%s: %s, %v, want %s", name, got, ok, want)
		}
	}
}

func TestNearest(t *testing.T) {
	fields := NewFields()
	for name, want := range map[string]string{
		"objectref.resource": "objectRef.resource", "userName": "username", "requestUri": "requestURI", "sourceIp": "sourceIPs",
		"responsestatus.cod": "responseStatus.code", "completely.different.thing": "",
	} {
		if got := fields.Nearest(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := Nearest("selction", slices.Values([]string{"filter", "selection"})); got != "selection" {
		t.Errorf("got %q", got)
	}
}

func TestTemplateFaults(t *testing.T) {
	known := func(name string) (Field, bool) { return Field{Name: name}, name == "user" }
	for text, want := range map[string]string{
		"{user": `{ without } at "{user"`, "user}": `} without { at "}"`, "{who}": `{who} is not a column`, "[a": `[ without ] at "[a"`,
		"a]": `] without [ before "]"`, "[a[b]]": `[ inside [ at "[b]]"`, "[{who}]": `{who} is not a column`,
	} {
		_, err := ParseTemplate(text, known)
		if err == nil {
			t.Errorf("%s: no error", text)
			continue
		}
		if d := cmp.Diff(want, err.Error()); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
}
