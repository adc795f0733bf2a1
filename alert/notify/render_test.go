package notify

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/schemas"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", path, diff)
	}
}

func usualAlert() *schemas.Alert {
	a := testAlert(1)
	a.Title, a.Severity = "Command in a pod that reads credentials", critical
	a.Tags = []string{"attack.credential-access", "attack.t1528"}
	a.Summary = "alice@example.com ran in pod shop/web-0: cat /run/secrets/kubernetes.io/serviceaccount/token"
	a.Actor, a.ActorKind, a.User, a.Impersonated = "alice@example.com", "human", "oidc:alice@example.com", "deployer"
	a.Subresource, a.Namespace, a.Name, a.Code = "exec", "shop", "web-0", 101
	a.Command = []string{"cat", "/run/secrets/kubernetes.io/serviceaccount/token"}
	a.Decision = "allow"
	a.DecisionReason = `RBAC: allowed by ClusterRoleBinding "deployers" of ClusterRole "edit" to User "deployer"`
	a.DisplayName, a.Email, a.Team, a.Manager, a.Active = "Alice Jansen", "alice@example.com", "payments", "olivia@example.com", schemas.True
	a.SourceZone, a.SourceCountry, a.SourceNetwork, a.NamespaceOwner = "vpn", "NL", "AS64500 Example Ltd", "web"
	a.Grant, a.Grants, a.GrantAgreement = `ClusterRoleBinding "deployers" of ClusterRole "edit" to User "deployer"`, 3, "agree"
	a.GrantSince, a.GrantAuthor = a.Time.Add(-12*time.Minute), "olivia@example.com"
	a.ImpersonationAllowed, a.ImpersonationGrant = schemas.True, `ClusterRoleBinding "support" of ClusterRole "impersonators" to Group "support"`
	a.RightsComplete, a.ClusterAdmin, a.Breadth = schemas.True, schemas.False, 46
	a.Dangerous = []string{"read-secrets", "pod-create", "pods-exec", "ephemeral", "net-write", "weak-ns"}
	a.SourceIP, a.UserAgent = "192.0.2.7", "kubectl/v1.35.0 (linux/amd64)"
	a.AuditID, a.EventID = "8e5e0f2a-0a9c-4a55-8d9c-2d9a1c0b7f11", "000102030405060708090a0b0c0d0e0f"
	a.Next = "Treat the pod's service account token as stolen: delete the pod.\nThen ask the caller."
	a.Query = "SELECT event_time, verb\nFROM events\nWHERE cluster = 'prod' AND actor = 'alice@example.com'\nORDER BY event_time"
	return &a
}

// hostileAlert holds what a sender may try, in every field that a sender can choose.
func hostileAlert() *schemas.Alert {
	a := usualAlert()
	evil := "*b* _i_ ~s~ `c` ```x``` <!channel> <@U1> <https://evil.test|ok> &amp; :fire: https://evil.test \x1b[2J\x07\r\n\u202egpj\u200b\x00\xff #x @here"
	a.Summary, a.Actor, a.ActorKind, a.User, a.Impersonated, a.Cluster = evil, evil, evil, evil, evil, evil
	a.Verb, a.APIGroup, a.Resource, a.Subresource, a.Namespace, a.Name = evil, evil, evil, evil, evil, evil
	a.Command, a.DecisionReason, a.SourceIP, a.UserAgent, a.AuditID = []string{evil, evil}, evil, evil, evil, evil
	for _, field := range []*string{
		&a.DisplayName, &a.Email, &a.Team, &a.Manager, &a.Workload, &a.Pod, &a.Node, &a.CloudIdentity, &a.CredentialID, &a.MintedBy,
		&a.SourceZone, &a.SourceCountry, &a.SourceNetwork, &a.SourceNode, &a.NamespaceOwner, &a.ImpersonationGrant, &a.Grant, &a.GrantAuthor,
	} {
		*field = evil
	}
	a.Active, a.OffNode, a.ImpersonationAllowed, a.GrantAgreement = schemas.False, schemas.True, schemas.False, "disagree"
	a.Dangerous, a.CallerDangerous = []string{evil}, []string{evil, "any-any"}
	a.Outcome, a.Severity, a.Query, a.Tags = evil, "catastrophic", "SELECT '"+evil+"'\n-- ```", []string{evil}
	return a
}

// longAlert is beyond every limit.
func longAlert() *schemas.Alert {
	a := hostileAlert()
	long := strings.Repeat("<&`ü\x01", 20_000)
	a.Title, a.Summary, a.Actor, a.User, a.Impersonated, a.Cluster, a.Next = long, long, long, long, long, long, long
	a.Verb, a.Name, a.DecisionReason, a.SourceIP, a.UserAgent, a.AuditID = long, long, long, long, long, long
	a.Rule, a.Command, a.Query = long, []string{long, long}, long
	a.DisplayName, a.Team, a.Grant, a.GrantAuthor, a.SourceNetwork, a.MintedBy, a.Workload = long, long, long, long, long, long, long
	a.Dangerous, a.CallerDangerous = []string{long, long, long, long, long, long}, []string{long, long, long, long, long}
	for range 200 {
		a.Tags = append(a.Tags, long)
	}
	return a
}

// bare is an alert that holds nothing but its id.
func bareAlert() *schemas.Alert { return &schemas.Alert{ID: alertID(1)} }

func cases() map[string]*schemas.Alert {
	return map[string]*schemas.Alert{
		"usual": usualAlert(), "hostile": hostileAlert(), "bare": bareAlert(), "denied": deniedAlert(), "path": pathAlert(),
		"stolen": stolenAlert(), "left": leftAlert(),
	}
}

// stolenAlert is about a service account's token that is not where it belongs.
func stolenAlert() *schemas.Alert {
	a := testAlert(1)
	a.Title, a.Summary, a.Severity = "Token used off its node", "system:serviceaccount:shop:web listed secrets from 198.51.100.7", high
	a.Actor, a.ActorKind, a.User = "prod/shop/web", "service_account", "system:serviceaccount:shop:web"
	a.Decision, a.DecisionReason = "allow", `RBAC: allowed by RoleBinding "readers/shop" of Role "reader" to ServiceAccount "web/shop"`
	a.Team, a.Workload, a.Pod, a.Node = "web", "Deployment shop/web", "shop/web-6d4f-abcde", "worker-1"
	a.CloudIdentity = "arn:aws:iam::111122223333:role/web"
	a.MintedBy, a.MintedAt = "bob@example.com", a.Time.Add(-90*time.Second)
	a.SourceIP, a.SourceZone, a.SourceNode, a.OffNode = "10.0.3.7", "pod", "worker-2", schemas.True
	a.Grant, a.Grants = `RoleBinding "shop/readers" of Role "reader" to ServiceAccount "shop/web"`, 1
	a.GrantSince, a.GrantAgreement = a.Time.Add(-400*24*time.Hour), "disagree"
	a.RightsComplete, a.Breadth, a.Dangerous = schemas.False, 7, []string{"weak-ns", "newer-than-us"}
	return &a
}

// leftAlert is about a person who has left the company, through a grant that the person made.
func leftAlert() *schemas.Alert {
	a := testAlert(1)
	a.Title, a.Summary, a.Severity = "Somebody who has left acts", "carol@example.com deleted namespace shop", high
	a.Actor, a.ActorKind, a.User = "carol@example.com", "human", "oidc:carol"
	a.DisplayName, a.Email, a.Team, a.Active = "Carol \u202eSmith", "carol@example.com", "platform", schemas.False
	a.Decision, a.DecisionReason = "allow", "access granted by IAM permissions."
	a.Grant, a.Grants, a.GrantAgreement = `ClusterRoleBinding "mine" of ClusterRole "cluster-admin" to User "oidc:carol"`, 2, "unknown"
	a.GrantSince, a.GrantAuthor, a.ClusterAdmin, a.Breadth = a.Time.Add(-5*time.Hour), "carol@example.com", schemas.True, 100
	return &a
}

func deniedAlert() *schemas.Alert {
	a := usualAlert()
	a.Severity, a.Command, a.Impersonated, a.Code, a.Outcome, a.Decision = low, nil, "", 403, "denied", "forbid"
	a.Resource, a.APIGroup, a.Subresource, a.Verb = "rolebindings", "rbac.authorization.k8s.io", "", "create"
	a.DecisionReason = ""
	return a
}

func pathAlert() *schemas.Alert {
	a := usualAlert()
	a.Severity, a.Resource, a.Verb, a.RequestURI, a.Command = informational, "", "get", "/metrics?x=1", nil
	a.Code, a.Outcome, a.Decision, a.Actor, a.User, a.ActorKind = 401, "unauthenticated", "", "", "", ""
	a.DisplayName, a.Email, a.Team, a.Manager, a.Active, a.Impersonated, a.Dangerous, a.Breadth = "", "", "", "", "", "", nil, 0
	return a
}

func TestSlackIsGolden(t *testing.T) {
	for name, alert := range cases() {
		t.Run(name, func(t *testing.T) {
			m := NewMessage(alert)
			golden(t, name+".slack.json", slackJSON(t, &m))
			golden(t, name+".slack.txt", slackPlain(&m)+"\n")
		})
	}
}

// slackJSON is what the webhook sends, made readable.
func slackJSON(t *testing.T, m *Message) string {
	t.Helper()
	body := send(t, m, false)
	var text bytes.Buffer
	var value any
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		t.Fatal(err)
	}
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// send posts through the webhook and returns the body.
func send(t *testing.T, m *Message, plain bool) string {
	t.Helper()
	var body bytes.Buffer
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := body.ReadFrom(r.Body); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	cfg := DefaultSlackConfig()
	cfg.WebhookURL = conf.Secret(server.URL)
	sink, err := NewSlack(cfg, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Post(t.Context(), m, plain); err != nil {
		t.Fatal(err)
	}
	return body.String()
}

func TestConsoleIsGolden(t *testing.T) {
	var all strings.Builder
	for _, name := range []string{"usual", "denied", "path", "bare", "stolen", "left", "hostile"} {
		m := NewMessage(cases()[name])
		all.WriteString(ConsoleText(&m, false))
	}
	golden(t, "console.txt", all.String())
	m := NewMessage(usualAlert())
	golden(t, "console.color.txt", strings.ReplaceAll(ConsoleText(&m, true), "\x1b", "ESC"))
}

func TestConsoleShowsNoControlCharacters(t *testing.T) {
	for _, alert := range []*schemas.Alert{hostileAlert(), longAlert()} {
		m := NewMessage(alert)
		for _, r := range ConsoleText(&m, false) {
			if r != '\n' && (r < ' ' || r == 0x7f || r == 0x202e || r == 0x200b || r == utf8.RuneError) {
				t.Fatalf("%q reaches the terminal", r)
			}
		}
	}
}

// blockJSON is what the limits are checked on.
type blockJSON struct {
	Type     string
	Text     *textJSON
	Fields   []textJSON
	Elements []textJSON
}

type textJSON struct {
	Type     string
	Text     string
	Verbatim bool
}

func TestLimitsAndInjection(t *testing.T) {
	for name, alert := range map[string]*schemas.Alert{
		"hostile": hostileAlert(), "long": longAlert(), "bare": bareAlert(), "usual": usualAlert(),
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMessage(alert)
			m.Repeat = true
			var sent struct {
				Text   string
				Blocks []blockJSON
			}
			if err := json.Unmarshal([]byte(send(t, &m, false)), &sent); err != nil {
				t.Fatal(err)
			}
			if n := len(sent.Blocks); n > 50 {
				t.Errorf("%d blocks", n)
			}
			checkText(t, "fallback", textJSON{Type: "mrkdwn", Text: sent.Text, Verbatim: true}, slackMaxText)
			for _, b := range sent.Blocks {
				checkBlock(t, b)
			}
			if err := json.Unmarshal([]byte(send(t, &m, true)), &sent); err != nil {
				t.Fatal(err)
			}
			checkText(t, "plain", textJSON{Type: "mrkdwn", Text: sent.Text, Verbatim: true}, slackMaxText)
		})
	}
}

func checkBlock(t *testing.T, b blockJSON) {
	t.Helper()
	limit := slackMaxSection
	if b.Type == "header" {
		limit = slackMaxHeader
	}
	if b.Text != nil {
		checkText(t, b.Type, *b.Text, limit)
	}
	if len(b.Fields) > 10 || len(b.Elements) > 10 {
		t.Errorf("%s: %d fields, %d elements", b.Type, len(b.Fields), len(b.Elements))
	}
	for _, f := range append(b.Fields, b.Elements...) {
		checkText(t, b.Type, f, slackMaxField)
	}
}

// checkText asserts what Slack demands of a text and that nothing of the event is
// interpreted: outside of code there is only what we wrote ourselves.
func checkText(t *testing.T, where string, text textJSON, limit int) {
	t.Helper()
	if text.Text == "" || len(text.Text) > limit || !utf8.ValidString(text.Text) {
		t.Errorf("%s: %d bytes, at most %d are allowed: %.80q", where, len(text.Text), limit, text.Text)
	}
	rest := text.Text
	if strings.Contains(rest, "<!date^") {
		rest = strings.Replace(rest, "<!date^", "", 1)
		rest = strings.Replace(rest, ">", "", 1)
	}
	if strings.ContainsAny(rest, "<>") {
		t.Errorf("%s: markup of the event is left in %q", where, text.Text)
	}
	if text.Type != "mrkdwn" {
		return
	}
	if !text.Verbatim {
		t.Errorf("%s: Slack would look for links in %q", where, text.Text)
	}
	outside := ""
	for i, part := range strings.Split(strings.ReplaceAll(rest, "```", "`"), "`") {
		if i%2 == 0 {
			outside += part
		}
	}
	for _, evil := range []string{"evil", "*b*", "_i_", ":fire:", "@here", "channel"} {
		if strings.Contains(outside, evil) {
			t.Errorf("%s: %q is outside of code in %q", where, evil, text.Text)
		}
	}
}

func TestBot(t *testing.T) {
	var form url.Values
	var authorization string
	answer := `{"ok":true,"channel":"C1","ts":"1.2"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		form, authorization = r.Form, r.Header.Get("Authorization")
		if r.URL.Path != "/api/chat.postMessage" {
			t.Errorf("got a request for %s", r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	cfg := DefaultSlackConfig()
	cfg.BotToken, cfg.Channel, cfg.APIURL = "xoxb-1", "#alerts", server.URL+"/api"
	sink, err := NewSlack(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMessage(usualAlert())
	r, err := sink.Post(t.Context(), &m, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Receipt{Channel: "C1", TS: "1.2"}, r); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if form.Get("channel") != "#alerts" || form.Get("parse") != "none" || form.Get("unfurl_links") != "false" ||
		authorization+form.Get("token") == "" || !strings.Contains(form.Get("blocks"), "header") {
		t.Errorf("got %v", form)
	}
	if _, err := sink.Post(t.Context(), &m, true); err != nil || form.Get("blocks") != "" {
		t.Errorf("plain: got blocks %q, error %v", form.Get("blocks"), err)
	}
	answers := map[string]Class{
		`{"ok":false,"error":"invalid_auth"}`: Blocked, `{"ok":false,"error":"channel_not_found"}`: Blocked,
		`{"ok":false,"error":"brand_new"}`: Blocked, `{"ok":false,"error":"ratelimited"}`: Transient,
		`{"ok":false,"error":"invalid_blocks"}`: Refused, `{"ok":false,"error":"invalid_arguments"}`: Doubtful,
		`<html>`: Transient, `{"ok":`: Transient,
	}
	for text, class := range answers {
		answer = text
		_, err := sink.Post(t.Context(), &m, false)
		if err == nil || asError(err).Class != class {
			t.Errorf("%s: got class %v of %v, want %v", text, asError(err).Class, err, class)
		}
		if err != nil && strings.Contains(err.Error(), "xoxb") {
			t.Errorf("the token is in %q", err)
		}
	}
}

func TestBotStatus(t *testing.T) {
	status, retryAfter := http.StatusTooManyRequests, "7"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", retryAfter)
		w.WriteHeader(status)
	}))
	cfg := DefaultSlackConfig()
	cfg.BotToken, cfg.Channel, cfg.APIURL = "xoxb-1", "C1", server.URL
	sink, err := NewSlack(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMessage(usualAlert())
	_, err = sink.Post(t.Context(), &m, false)
	if e := asError(err); e.Class != Transient || e.RetryAfter != 7*time.Second || e.Unknown {
		t.Errorf("429: got %+v", e)
	}
	status = http.StatusServiceUnavailable
	if _, err = sink.Post(t.Context(), &m, false); asError(err).Class != Transient || !asError(err).Unknown {
		t.Errorf("503: got %+v", asError(err))
	}
	server.Close()
	_, err = sink.Post(t.Context(), &m, false)
	if e := asError(err); e.Class != Transient || e.Unknown || e.Reason != "connection" {
		t.Errorf("nobody listens: got %+v", e)
	}
}

func TestWebhookURLStaysSecret(t *testing.T) {
	cfg := DefaultSlackConfig()
	for _, raw := range []string{"http://127.0.0.1:1/services/hush", "http://127.0.0.1:1/%zz/hush"} {
		cfg.WebhookURL = conf.Secret(raw)
		sink, err := NewSlack(cfg, nil)
		if err == nil {
			m := NewMessage(usualAlert())
			_, err = sink.Post(t.Context(), &m, false)
		}
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("got %v, want an error without the URL", err)
		}
	}
	if _, err := NewSlack(DefaultSlackConfig(), nil); err == nil {
		t.Error("a sink without a destination was made")
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("plain", 10)
	f.Add("\x1b[2J\u202e<!here>\xff`", 3)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 8 + max(0, limit)%4096
		got := Printable(s, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\t\x00\x1b\u202e") {
			t.Errorf("Printable(%q, %d) = %q", s, limit, got)
		}
		code := slackCode(got, limit)
		if len(code) > max(limit, len("–")) || strings.ContainsAny(code, "<>") {
			t.Errorf("slackCode(%q, %d) = %q", got, limit, code)
		}
		if inner := strings.Trim(code, "`"); strings.Contains(inner, "`") {
			t.Errorf("slackCode(%q) ends early: %q", got, code)
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	a := usualAlert()
	b.ReportAllocs()
	for b.Loop() {
		m := NewMessage(a)
		if len(slackBlocks(&m)) == 0 {
			b.Fatal("no blocks")
		}
	}
}
