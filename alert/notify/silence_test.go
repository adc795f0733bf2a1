package notify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/schemas"
)

func (w *world) silences() *Silences {
	w.t.Helper()
	s, err := NewSilences(w.kafka)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

// own are the alerts that auditmill raised about itself.
func (w *world) own(rule string) (out []schemas.Alert) {
	w.t.Helper()
	for _, r := range w.read(schemas.TopicAlerts) {
		var a schemas.Alert
		if err := json.Unmarshal(r.Value, &a); err != nil {
			w.t.Fatal(err)
		}
		if a.Rule == rule {
			out = append(out, a)
		}
	}
	return out
}

// quietly routes what auditmill says about itself nowhere, so that a test sees the rest.
func quietly(c *Config, _ *Deps) {
	c.Routes = []RouteConfig{{Match: Match{Rules: []string{RuleSilence}}}, {Receivers: []string{DefaultReceiver}}}
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.silences()
		added, err := s.Add(t.Context(), Silence{
			Match: SilenceMatch{Rules: []string{"pod-*"}, Actors: []string{"alice"}}, Until: time.Now().Add(time.Hour),
			Author: "bob", Comment: "migration",
		}, "cli")
		if err != nil {
			t.Fatal(err)
		}
		i := w.start(w.bot, quietly)
		other := testAlert(2)
		other.Actor = "mallory"
		w.produce(grouped("g", 1, 0), other)
		until(t, "a post", func() bool { return len(w.slack.called()) == 1 })
		<-time.After(30 * time.Minute)
		if got := w.slack.called(); len(got) != 1 || !strings.Contains(got[0].text, "mallory") {
			t.Fatalf("got %v, want the alert that is not silenced alone", methods(got))
		}
		if got := i.count("silences"); got != 1 {
			t.Errorf("got %v silences", got)
		}
		i.stop()

		// A restart knows it, and when it ends what it held back is told.
		i = w.start(w.bot, quietly)
		until(t, "an assignment", i.posts)
		<-time.After(10 * time.Minute)
		if got := w.slack.called(); len(got) != 1 {
			t.Fatalf("got %v after a restart", methods(got))
		}
		if _, err := s.Expire(t.Context(), added.ID, "carol", "cli", "done"); err != nil {
			t.Fatal(err)
		}
		until(t, "the other post", func() bool { return len(w.slack.called()) == 2 })
		i.stop()

		all, err := s.List(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("got %v, %v", all, err)
		}
		var done []string
		for _, c := range all[0].Changes {
			done = append(done, c.Action+" by "+c.By+" via "+c.Via)
		}
		if diff := cmp.Diff([]string{"created by bob via cli", "expired by carol via cli"}, done); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		audit := w.own(RuleSilence)
		if len(audit) != 2 {
			t.Fatalf("got %d alerts about silences, want 2", len(audit))
		}
		for _, a := range audit {
			if want := map[string]string{"created": "bob", "expired": "carol"}[a.Values["action"]]; a.Actor != want || a.Time.IsZero() {
				t.Errorf("got %+v", a)
			}
		}
		if _, err := s.Expire(t.Context(), "nope", "x", "cli", ""); !errors.Is(err, ErrNoSilence) {
			t.Errorf("got %v", err)
		}
	})
}

func TestMaintenanceWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		now := time.Now()
		if _, err := w.silences().Add(t.Context(), Silence{
			Kind: KindMaintenance, Match: SilenceMatch{Clusters: []string{"prod"}}, From: now.Add(time.Hour), Until: now.Add(2 * time.Hour),
			Author: "bob", Comment: "upgrade",
		}, "cli"); err != nil {
			t.Fatal(err)
		}
		i := w.start(w.bot, quietly)
		w.produce(grouped("before", 1, 0))
		until(t, "a post", func() bool { return len(w.slack.called()) == 1 })
		<-time.After(90 * time.Minute)
		w.produce(grouped("within", 1, 0))
		<-time.After(20 * time.Minute)
		if got := len(w.slack.called()); got != 1 {
			t.Errorf("got %d calls within the window", got)
		}
		<-time.After(20 * time.Minute)
		i.stop()
		if got := len(w.slack.called()); got != 2 {
			t.Errorf("got %d calls after the window, want what came within it", got)
		}
	})
}

func TestAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start(w.bot, quietly)
		w.produce(grouped("g", 1, 0))
		until(t, "a post", func() bool { return len(w.slack.called()) == 1 })
		if _, err := w.silences().Add(t.Context(), Silence{
			Kind: KindAcknowledgement, Match: SilenceMatch{Group: schemas.AlertGroup("g")}, Until: time.Now().Add(24 * time.Hour),
			Author: "<!channel> `bob`",
		}, "slack"); err != nil {
			t.Fatal(err)
		}
		until(t, "a change", func() bool { return len(w.slack.called()) == 2 })
		<-time.After(time.Minute)
		w.produce(grouped("g", 2, 2*time.Hour)) // quiet and awake: no reply, somebody knows
		<-time.After(time.Hour)
		i.stop()
		calls := w.slack.called()
		first := calls[0].ts
		if diff := cmp.Diff([]string{"postMessage", "update of " + first, "update of " + first}, methods(calls)); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		if !strings.Contains(calls[1].blocks, "Acknowledged by") || strings.Contains(calls[1].blocks, "<!channel>") {
			t.Errorf("got %s", calls[1].blocks)
		}
	})
}

func TestSilenceOfOneselfHasNoEffect(t *testing.T) {
	s := newSilenced()
	now := time.Now()
	s.apply(&Silence{ID: "1", Kind: KindSilence, Match: SilenceMatch{Rules: []string{"*"}}, From: now, Until: now.Add(time.Hour)})
	for _, rule := range []string{RuleSilence, RuleUndelivered} {
		if v := s.check(&Group{Alert: schemas.Alert{Rule: rule}}, now); !v.silent.IsZero() {
			t.Errorf("%s is silenced", rule)
		}
	}
	if v := s.check(&Group{Alert: schemas.Alert{Rule: "x"}}, now); v.silent.IsZero() {
		t.Error("x is not silenced")
	}
}

func TestSilenceFaults(t *testing.T) {
	s := Silence{Kind: "x", Match: SilenceMatch{Rules: []string{}}, Comment: strings.Repeat("x", 2*maxText)}
	err := s.Validate()
	for _, want := range []string{"kind: ", "match: ", "until: ", "author: ", "comment: "} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("no fault starts with %s in %v", want, err)
		}
	}
}

const testToken = "open sesame"

func testAPI(t *testing.T) (w *world, server *httptest.Server) {
	t.Helper()
	w = newRealWorld(t)
	sum := sha256.Sum256([]byte(testToken))
	cfg := APIConfig{
		Listen: "127.0.0.1:0", SigningSecret: "8f742231b10e8888abcd99yyyzzz85a5",
		Tokens: []APIToken{{Name: "other", SHA256: strings.Repeat("00", 32)}, {Name: "ci", SHA256: hex.EncodeToString(sum[:])}},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	server = httptest.NewServer(newAPI(cfg, slog.New(slog.DiscardHandler), w.silences()).handler())
	t.Cleanup(server.Close)
	return w, server
}

func call1(t *testing.T, server *httptest.Server, method, path, token, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var value map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&value); err != nil {
		t.Fatalf("%s %s: %d, %v", method, path, resp.StatusCode, err)
	}
	return resp.StatusCode, value
}

func TestAPI(t *testing.T) {
	w, server := testAPI(t)
	tests := []struct {
		name, method, path, token, body string
		status                          int
	}{
		{"no token", http.MethodGet, "/v1/silences", "", "", http.StatusUnauthorized},
		{"wrong token", http.MethodPost, "/v1/silences", "guess", "{}", http.StatusUnauthorized},
		{"empty", http.MethodPost, "/v1/silences", testToken, "{}", http.StatusBadRequest},
		{"no JSON", http.MethodPost, "/v1/silences", testToken, "{", http.StatusBadRequest},
		{"unknown key", http.MethodPost, "/v1/silences", testToken, `{"author":"me"}`, http.StatusBadRequest},
		{
			"bad duration", http.MethodPost, "/v1/silences", testToken,
			`{"match":{"rules":["a"]},"duration":"soon","comment":"c"}`, http.StatusBadRequest,
		},
		{"too large", http.MethodPost, "/v1/silences", testToken, `{"comment":"` + strings.Repeat("x", maxAPIBody) + `"}`, http.StatusRequestEntityTooLarge},
		{"no such silence", http.MethodDelete, "/v1/silences/abc", testToken, "", http.StatusNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if status, value := call1(t, server, tt.method, tt.path, tt.token, tt.body); status != tt.status || value["error"] == "" {
				t.Errorf("got %d %v, want %d", status, value, tt.status)
			}
		})
	}
	if got := len(w.own(RuleSilence)); got != 0 {
		t.Fatalf("%d changes by requests that were refused", got)
	}
	status, made := call1(t, server, http.MethodPost, "/v1/silences", testToken, `{"match":{"rules":["a"]},"duration":"7d","comment":"c"}`)
	if status != http.StatusCreated || made["author"] != "ci" {
		t.Fatalf("got %d %v", status, made)
	}
	if status, value := call1(t, server, http.MethodPost, "/v1/groups/g1/acknowledge", testToken, ""); status != http.StatusCreated || value["kind"] != KindAcknowledgement {
		t.Errorf("got %d %v", status, value)
	}
	if status, value := call1(t, server, http.MethodDelete, "/v1/silences/"+made["id"].(string), testToken, ""); status != http.StatusOK {
		t.Errorf("got %d %v", status, value)
	}
	status, value := call1(t, server, http.MethodGet, "/v1/silences", testToken, "")
	if all, ok := value["silences"].([]any); status != http.StatusOK || !ok || len(all) != 2 {
		t.Errorf("got %d %v", status, value)
	}
	if got := len(w.own(RuleSilence)); got != 3 {
		t.Errorf("%d changes are recorded, want 3", got)
	}
}

// press sends a button of Slack.
func press(t *testing.T, server *httptest.Server, secret, action, group string, at time.Time) int {
	t.Helper()
	payload := fmt.Sprintf(`{"type":"block_actions","user":{"id":"U1","username":"bob"},"actions":[{"action_id":%q,"value":%q}]}`, action, group)
	return pressBody(t, server, secret, []byte(url.Values{"payload": {payload}}.Encode()), at)
}

func pressBody(t *testing.T, server *httptest.Server, secret string, body []byte, at time.Time) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/slack/actions", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	ts := strconv.FormatInt(at.Unix(), 10)
	req.Header.Set("X-Slack-Request-Timestamp", ts)
	req.Header.Set("X-Slack-Signature", signature(conf.Secret(secret), "v0", ts, body))
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestButtons(t *testing.T) {
	w, server := testAPI(t)
	const secret = "8f742231b10e8888abcd99yyyzzz85a5"
	now := time.Now()
	for name, got := range map[string]int{
		"wrong secret": press(t, server, "other", actionAcknowledge, "g1", now),
		"old":          press(t, server, secret, actionAcknowledge, "g1", now.Add(-6*time.Minute)),
		"from later":   press(t, server, secret, actionAcknowledge, "g1", now.Add(6*time.Minute)),
	} {
		if got != http.StatusUnauthorized {
			t.Errorf("%s: got %d", name, got)
		}
	}
	if got := press(t, server, secret, actionAcknowledge, "g1\n`", now); got != http.StatusBadRequest {
		t.Errorf("a group that is none: got %d", got)
	}
	if got := pressBody(t, server, secret, []byte("payload=%7B"), now); got != http.StatusBadRequest {
		t.Errorf("a payload that is none: got %d", got)
	}
	if got := len(w.own(RuleSilence)); got != 0 {
		t.Fatalf("%d changes by requests that were refused", got)
	}
	for range 3 { // the same request again is the same press
		if got := press(t, server, secret, actionSilenceHour, "g1", now); got != http.StatusOK {
			t.Errorf("got %d", got)
		}
	}
	if got := press(t, server, secret, actionAcknowledge, "g1", now); got != http.StatusOK {
		t.Errorf("got %d", got)
	}
	if got := press(t, server, secret, "of_another_app", "g1", now); got != http.StatusOK {
		t.Errorf("got %d", got)
	}
	all, err := w.silences().List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("got %v, %v, want an acknowledgement and a silence", all, err)
	}
	for _, s := range all {
		want := map[string]time.Duration{KindAcknowledgement: 24 * time.Hour, KindSilence: time.Hour}[s.Kind]
		if s.Until.Sub(s.From) != want || s.Match.Group != "g1" || s.Author != "@bob (Slack user U1)" || s.Changes[0].Via != "slack" {
			t.Errorf("got %+v", s)
		}
	}
}

// The example of Slack's own documentation.
func TestSlackSignature(t *testing.T) {
	const body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	got := signature("8f742231b10e8888abcd99yyyzzz85a5", "v0", "1531420618", []byte(body))
	if want := "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzInteraction(f *testing.F) {
	f.Add([]byte("payload=%7B%22type%22%3A%22block_actions%22%2C%22user%22%3A%7B%22id%22%3A%22U%22%7D%7D"))
	f.Add([]byte("payload=null"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodeInteraction(body)
		if (err == nil) != (p != nil) || p != nil && p.User.ID == "" {
			t.Errorf("got %+v, %v", p, err)
		}
	})
}

func TestAPIConfig(t *testing.T) {
	c := DefaultConfig()
	c.API = APIConfig{Listen: "nowhere", CertFile: "x", Tokens: []APIToken{{SHA256: "00"}}}
	err := c.Validate()
	for _, want := range []string{"api.listen: ", "api.cert_file, key_file: ", "api.tokens[0].name: ", "api.tokens[0].token_sha256: "} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("no fault starts with %s in %v", want, err)
		}
	}
	c.API = APIConfig{SigningSecret: "s"}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "api.listen: ") {
		t.Errorf("got %v", err)
	}
}

// The listener is part of the notifier, and messages have buttons then.
func TestButtonsAreOnMessages(t *testing.T) {
	w := newRealWorld(t)
	i := w.start(w.bot, func(c *Config, _ *Deps) {
		c.API = APIConfig{Listen: "127.0.0.1:0", SigningSecret: "s"}
	})
	w.produce(grouped("g", 1, 0))
	until(t, "a post", func() bool { return len(w.slack.called()) == 1 })
	i.stop()
	if blocks := w.slack.called()[0].blocks; !strings.Contains(blocks, actionSilenceDay) || !strings.Contains(blocks, schemas.AlertGroup("g")) {
		t.Errorf("no buttons in %s", blocks)
	}
}
