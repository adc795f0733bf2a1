package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// otherSides are the receivers of the configuration, by host.
type otherSides struct {
	mu     sync.Mutex
	got    map[string][]request
	answer map[string]func(n int) (status int, retryAfter string, err error) // n counts from 0
}

type request struct {
	path   string
	header http.Header
	body   []byte
	at     time.Time
}

func newOtherSides() *otherSides {
	return &otherSides{got: map[string][]request{}, answer: map[string]func(int) (int, string, error){}}
}

func (o *otherSides) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.got[r.Host])
	o.got[r.URL.Host] = append(o.got[r.URL.Host], request{r.URL.Path, r.Header, body, time.Now()})
	status, retryAfter := http.StatusOK, ""
	if answer := o.answer[r.URL.Host]; answer != nil {
		if status, retryAfter, err = answer(n); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}, Body: io.NopCloser(strings.NewReader("why")), Request: r,
	}, nil
}

func (o *otherSides) requests(host string) []request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]request(nil), o.got[host]...)
}

func (o *otherSides) option(routes ...RouteConfig) option {
	return func(c *Config, d *Deps) {
		d.HTTP = &http.Client{Transport: o}
		c.Routes = routes
		c.Receivers = []ReceiverConfig{
			{Name: "hook", Type: typeWebhook, URL: "https://hook.test/in", Secret: "0123456789abcdef", BearerToken: "t"},
			{Name: "pager", Type: typePagerDuty, URL: "https://pd.test/v2/enqueue", RoutingKey: "R"},
			{Name: "prometheus", Type: typeAlertmanager, URL: "https://am.test/"},
		}
	}
}

func TestRoutes(t *testing.T) {
	routes := []RouteConfig{
		{Match: Match{Severity: critical}, Receivers: []string{"pager"}, Continue: true},
		{Match: Match{Clusters: []string{"prod-*"}, Namespaces: []string{"kube-*", "pay?"}}, Receivers: []string{"a", "b"}},
		{Match: Match{Rules: []string{"noise"}}},
		{Match: Match{Tags: []string{"attack.t15*"}, Teams: []string{"sre"}}, Receivers: []string{"b"}},
		{Match: Match{Actors: []string{"*@example.com"}}, Receivers: []string{"c"}},
		{Match: Match{Owners: []string{"pay*"}}, Receivers: []string{"d"}},
		{Match: Match{People: []string{"Alice *", "bob@example.org"}}, Receivers: []string{"e"}},
		{Match: Match{Owners: []string{"*"}, Teams: []string{"*"}}, Receivers: []string{"c"}},
	}
	r := newRouter(Config{Routes: routes}, []string{DefaultReceiver, "pager", "a", "b", "c", "d", "e"})
	tests := []struct {
		name  string
		alert schemas.Alert
		want  []string
	}{
		{"nothing matches", schemas.Alert{Rule: "x", Severity: high}, []string{DefaultReceiver}},
		{"first and on", schemas.Alert{Severity: critical, Cluster: "prod-eu", Namespace: "pays"}, []string{"pager", "a", "b"}},
		{"first alone", schemas.Alert{Severity: critical}, []string{"pager"}},
		{"cluster without namespace", schemas.Alert{Cluster: "prod-eu", Namespace: "default"}, []string{DefaultReceiver}},
		{"nobody", schemas.Alert{Rule: "noise", Actor: "a@example.com"}, nil},
		{"tag and team", schemas.Alert{Tags: []string{"x", "attack.t1528"}, Values: map[string]string{"team": "sre"}}, []string{"b"}},
		{"team of the actor", schemas.Alert{Tags: []string{"attack.t1528"}, Team: "sre"}, []string{"b"}},
		{"owner of the namespace", schemas.Alert{NamespaceOwner: "payments", Team: "web"}, []string{"d"}},
		{"a person by name", schemas.Alert{DisplayName: "Alice Jansen", Actor: "oidc:alice"}, []string{"e"}},
		{"a person by e-mail address", schemas.Alert{Email: "bob@example.org"}, []string{"e"}},
		{"an owner, and no team is known", schemas.Alert{NamespaceOwner: "web"}, []string{DefaultReceiver}},
		{"any owner and any team", schemas.Alert{NamespaceOwner: "web", Team: "sre"}, []string{"c"}},
		{"actor", schemas.Alert{Actor: "a@example.com"}, []string{"c"}},
		{
			"about a receiver",
			schemas.Alert{Rule: RuleUndelivered, Values: map[string]string{"receiver": "a"}},
			[]string{DefaultReceiver, "pager", "b", "c", "d", "e"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, r.receivers(&tt.alert)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 12 || len(s) > 40 {
			return
		}
		if got, want := glob(pattern, s), naiveGlob([]rune(pattern), []rune(s)); got != want {
			t.Errorf("glob(%q, %q) = %v", pattern, s, got)
		}
	})
}

func naiveGlob(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return naiveGlob(p[1:], s) || len(s) > 0 && naiveGlob(p, s[1:])
	}
	return len(s) > 0 && (p[0] == '?' || p[0] == s[0]) && naiveGlob(p[1:], s[1:])
}

func TestReceiversAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := newWorld(t), newOtherSides()
		// Each in its own way not at once.
		o.answer["hook.test"] = func(n int) (int, string, error) {
			return []int{http.StatusServiceUnavailable, http.StatusOK}[min(n, 1)], "", nil
		}
		o.answer["pd.test"] = func(n int) (int, string, error) {
			return []int{http.StatusTooManyRequests, http.StatusAccepted}[min(n, 1)], "20", nil
		}
		o.answer["am.test"] = func(n int) (int, string, error) {
			if n == 0 {
				return 0, "", errors.New("the connection broke")
			}
			return http.StatusOK, "", nil
		}
		i := w.start(o.option(RouteConfig{Receivers: []string{"hook", "pager", "prometheus"}}))
		until(t, "an assignment", i.posts)
		a := hostileAlert()
		a.Time, a.Severity = time.Now(), critical
		w.produce(*a)
		until(t, "all posts", func() bool { return i.count("posted_total") == 3 })
		a.ID = alertID(2)
		w.produce(*a) // the same group only by the id of the group
		i.stop()
		if n := len(w.slack.posts()); n != 0 {
			t.Errorf("%d messages went to Slack, which no route names", n)
		}

		hook := o.requests("hook.test")[1]
		at := hook.header.Get("X-Auditmill-Timestamp")
		if want := signature("0123456789abcdef", "v1", at, hook.body); hook.header.Get("X-Auditmill-Signature") != want {
			t.Errorf("got the signature %q, want %q", hook.header.Get("X-Auditmill-Signature"), want)
		}
		if seconds, err := strconv.ParseInt(at, 10, 64); err != nil || seconds != hook.at.Unix() {
			t.Errorf("got the time %q", at)
		}
		if hook.header.Get("Authorization") != "Bearer t" || hook.path != "/in" {
			t.Errorf("got %s with %v", hook.path, hook.header)
		}
		if first := o.requests("hook.test")[0]; first.header.Get("Idempotency-Key") != hook.header.Get("Idempotency-Key") {
			t.Error("the second attempt has another key")
		}
		pager := o.requests("pd.test")
		if d := pager[1].at.Sub(pager[0].at); d < 20*time.Second {
			t.Errorf("tried again after %s, want 20s", d)
		}
		for _, host := range []string{"pd.test", "am.test"} {
			checkInert(t, host, o.requests(host)[1].body)
		}
		var body WebhookBody
		if err := json.Unmarshal(hook.body, &body); err != nil {
			t.Fatal(err)
		}
		checkInert(t, "text", []byte(body.Text))
		if !body.Repeat || body.Alert.Actor == "" || body.GroupID == "" || body.Kind != KindNew {
			t.Errorf("got %+v", body)
		}
	})
}

// checkInert asserts that nothing in body renders as markup, a link or a mention.
func checkInert(t *testing.T, where string, body []byte) {
	t.Helper()
	text := string(body)
	for _, evil := range []string{
		"<!channel>", `\u003c`, "<@", "https://evil", "`", "*b*", "~s~", "@here", "\u202e", "\u200b", "\x1b", "{{",
	} {
		if strings.Contains(text, evil) {
			t.Errorf("%s: %q is left in %s", where, evil, text)
		}
	}
}

func TestMachinesAreGolden(t *testing.T) {
	for name, alert := range map[string]*schemas.Alert{"usual": usualAlert(), "hostile": hostileAlert()} {
		o := newOtherSides()
		c := DefaultConfig()
		o.option()(&c, &Deps{})
		for _, rc := range c.Receivers {
			r, err := rc.receiver(c, &http.Client{Transport: o})
			if err != nil {
				t.Fatal(err)
			}
			g := &Group{ID: "g"}
			g.add(alert, time.Minute, time.Now())
			m := newGroupMessage(g, KindNew, "")
			if _, err := r.sink.Post(t.Context(), &m, false); err != nil {
				t.Fatal(err)
			}
			host, _, _ := strings.Cut(strings.TrimPrefix(rc.URL.Reveal(), "https://"), "/")
			got := o.requests(host)[0]
			var value any
			if err := json.Unmarshal(got.body, &value); err != nil {
				t.Fatal(err)
			}
			if list, ok := value.([]any); ok {
				list[0].(map[string]any)["endsAt"] = "later"
			}
			var text bytes.Buffer
			e := json.NewEncoder(&text)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			if err := e.Encode(value); err != nil {
				t.Fatal(err)
			}
			golden(t, name+"."+rc.Type+".json", text.String())
		}
	}
}

// What one receiver does not take is a dead letter, and the others are told: once, and not of
// their own failures for ever.
func TestDeadLetterIsAlerted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := newWorld(t), newOtherSides()
		bad := func(int) (int, string, error) { return http.StatusBadRequest, "", nil }
		o.answer["hook.test"], o.answer["pd.test"] = bad, bad
		i := w.start(o.option(RouteConfig{Match: Match{Rules: []string{"pod-exec"}}, Receivers: []string{"hook"}}))
		w.produce(testAlert(1), testAlert(2))
		until(t, "dead letters", func() bool { return i.count("dead_total") >= 3 })
		<-time.After(10 * time.Minute)
		i.stop()
		reasons := map[string]int{}
		for _, r := range w.read(schemas.TopicDead) {
			d, err := kafka.ReadDead(r)
			if err != nil {
				t.Fatal(err)
			}
			var a schemas.Alert
			if err := json.Unmarshal(d.Value, &a); err != nil {
				t.Fatal(err)
			}
			reasons[a.Rule+" "+d.Reason]++
		}
		// Two for the receiver that the route names, one for the other bad one, told of that.
		if diff := cmp.Diff(map[string]int{"pod-exec invalid": 2, RuleUndelivered + " invalid": 1}, reasons); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if posts := w.slack.posts(); len(posts) != 1 || !strings.Contains(posts[0], "Notification could not be delivered") {
			t.Errorf("got %q", posts)
		}
		w.checkRestart()
	})
}

func TestReceiverThatIsAwayForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := newWorld(t), newOtherSides()
		o.answer["hook.test"] = func(int) (int, string, error) { return http.StatusUnauthorized, "", nil }
		i := w.start(o.option(RouteConfig{Match: Match{Rules: []string{"pod-exec"}}, Receivers: []string{"hook", "pager"}}),
			func(c *Config, _ *Deps) { c.Receivers[0].GiveUp = time.Hour })
		for n := range 5 {
			w.produce(testAlert(n))
		}
		until(t, "the other receiver", func() bool { return len(o.requests("pd.test")) >= 5 })
		until(t, "a word about it", func() bool { return len(w.slack.posts()) >= 1 })
		<-time.After(90 * time.Minute)
		if got := i.count("dead_total"); got != 5 {
			t.Errorf("got %v dead letters, want 5", got)
		}
		i.stop()
		if posts := w.slack.posts(); !strings.Contains(posts[0], "cannot be told of any alert") {
			t.Errorf("got %q", posts)
		}
	})
}

func TestReceiverConfig(t *testing.T) {
	c := DefaultConfig()
	c.Receivers = []ReceiverConfig{
		{Name: "a b", Type: "fax"},
		{Name: "x", Type: typeSlack, URL: "https://a.test", BotToken: "t", Secret: "s"},
		{Name: "x", Type: typeWebhook, Secret: "short"},
		{Name: "p", Type: typePagerDuty, URL: "ftp://hush", Timeout: time.Hour},
		{Name: "default", Type: typeAlertmanager, GiveUp: -1},
	}
	c.Routes = []RouteConfig{{Match: Match{Severity: "bad", Rules: []string{""}}, Receivers: []string{"nobody"}}}
	err := c.Validate()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		"receivers[0].name: ", "receivers[0].type: ", "receivers[1].secret: ", "receivers[1].url: ", "receivers[2].name: ",
		"receivers[2].url: ", "receivers[2].secret: ", "receivers[3].url: ", "receivers[3].routing_key: ", "receivers[3].timeout: ",
		"receivers[4].name: ", "receivers[4].url: ", "receivers[4].give_up: ", "routes[0].match.severity: ", "routes[0].match.rules[0]: ",
		"routes[0].receivers[0]: ",
	} {
		if !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("no fault starts with %s in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hush") {
		t.Error("a URL is in the error")
	}
	c = DefaultConfig()
	c.Routes = []RouteConfig{{Receivers: []string{DefaultReceiver}}}
	c.Receivers = []ReceiverConfig{{Name: "p", Type: typePagerDuty, RoutingKey: "k"}}
	if _, err := New(c, Deps{Kafka: kafka.DefaultConfig()}); err == nil || !strings.Contains(err.Error(), "routes[0]") {
		t.Errorf("got %v, want an error: there is no default receiver", err)
	}
}

// The configuration is read from YAML as written in the documentation.
func TestRoutesFromYAML(t *testing.T) {
	type root struct {
		Notify Config `mapstructure:"notify"`
	}
	path := fmt.Sprintf("%s/c.yml", t.TempDir())
	writeFile(t, path, `
notify:
  receivers:
    - {name: soc, type: slack, bot_token: xoxb-1, channel: C1}
    - {name: pager, type: pagerduty, routing_key: k}
  routes:
    - match: {severity: high, tags: [attack.*]}
      receivers: [soc, pager]
      continue: true
    - receivers: [soc]
`)
	got, err := conf.Load(root{Notify: DefaultConfig()}, conf.Options{File: path})
	if err != nil {
		t.Fatal(err)
	}
	want := []RouteConfig{
		{Match: Match{Severity: high, Tags: []string{"attack.*"}}, Receivers: []string{"soc", "pager"}, Continue: true},
		{Receivers: []string{"soc"}},
	}
	if diff := cmp.Diff(want, got.Notify.Routes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
