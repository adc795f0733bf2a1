package origin

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestClient(t *testing.T) {
	for _, tt := range []struct{ in, client, version string }{
		{"kubectl/v1.34.1 (darwin/arm64) kubernetes/93248f9", "kubectl", "v1.34.1"},
		{"curl/8.14.1", "curl", "8.14.1"},
		{"Go-http-client/2.0", "Go-http-client", "2.0"},
		{"strange", "strange", ""},
		{"", "", ""},
		{" leading", "", ""},
		{"a\tb/1", "a", ""},
		{"/1.0", "", "1.0"},
		{strings.Repeat("é", 100), strings.Repeat("é", 64), ""},
	} {
		if client, version := Client(tt.in); client != tt.client || version != tt.version {
			t.Errorf("Client(%q) = %q, %q; want %q, %q", tt.in, client, version, tt.client, tt.version)
		}
	}
}

func TestCommand(t *testing.T) {
	for in, want := range map[string][]string{
		"/api/v1/namespaces/d/pods/p/exec?command=sh&command=-c&command=echo+%22a%26b%22&container=x": {"sh", "-c", `echo "a&b"`},
		"/exec":                           nil,
		"/exec?command=":                  {""},
		"/exec?command=100%&x=command=no": {"100%"},
		"/exec?c%6fmmand=id":              {"id"},
		"/exec?command=%ff":               {"\ufffd"},
		"/exec?container=a":               nil,
	} {
		if diff := cmp.Diff(want, Command(nil, in)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", in, diff)
		}
	}
}

func TestSourceIP(t *testing.T) {
	if got := SourceIP([]string{"127.0.0.1", "203.0.113.7"}); got != "203.0.113.7" {
		t.Errorf("got %s: the first ones are the client's own word", got)
	}
	if got := SourceIP(nil); got != "" {
		t.Errorf("got %q of nothing", got)
	}
}

// Well-formed queries decode as net/url says; anything else must not break.
func FuzzCommand(f *testing.F) {
	f.Add("/exec?command=sh&command=a%20b")
	f.Fuzz(func(t *testing.T, uri string) {
		got := Command(nil, uri)
		for _, s := range got {
			if utf8.ValidString(uri) && !utf8.ValidString(s) {
				t.Fatalf("%q: %q is not UTF-8", uri, s)
			}
		}
		_, query, _ := strings.Cut(uri, "?")
		values, err := url.ParseQuery(query)
		if err != nil || strings.Contains(query, ";") || strings.Contains(query, "command&") || strings.HasSuffix(query, "command") {
			return
		}
		for i, want := range values["command"] {
			if want = strings.ToValidUTF8(want, "\ufffd"); utf8.ValidString(uri) && (i >= len(got) || got[i] != want) {
				t.Fatalf("%q: got %q, want %q", uri, got, values["command"])
			}
		}
	})
}
