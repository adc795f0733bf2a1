package directory

import (
	stdcontext "context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
)

// service is a SCIM service with the resources of testdata/scim.json.
type service struct {
	*httptest.Server
	resources map[string][]json.RawMessage
	// answer, if not nil, may answer instead; n counts the requests from 1.
	answer   func(n int, w http.ResponseWriter, r *http.Request) bool
	requests []string
}

func newService(t *testing.T) *service {
	t.Helper()
	text, err := os.ReadFile("testdata/scim.json")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{}
	if err := json.Unmarshal(text, &s.resources); err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests = append(s.requests, r.URL.RequestURI())
	if s.answer != nil && s.answer(len(s.requests), w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer secret" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"detail":"who are you?","status":"401"}`)
		return
	}
	all, ok := s.resources[strings.TrimPrefix(r.URL.Path, "/scim/v2/")]
	start, err := strconv.Atoi(r.URL.Query().Get("startIndex"))
	count, err2 := strconv.Atoi(r.URL.Query().Get("count"))
	if !ok || err != nil || err2 != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	page := all[min(start-1, len(all)):min(start-1+count, len(all))]
	w.Header().Set("Content-Type", "application/scim+json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"schemas":      []string{"urn:ietf:params:scim:api:messages:2.0:ListResponse"},
		"totalResults": len(all), "startIndex": start, "itemsPerPage": len(page), "Resources": page,
	})
}

func (s *service) client(pauses *[]time.Duration) *SCIM {
	return &SCIM{
		URL: s.URL + "/scim/v2/", Token: "secret", Source: "idp", PageSize: 2, Usernames: []Template{"oid:{externalId}"},
		pause: func(ctx stdcontext.Context, d time.Duration) error {
			*pauses = append(*pauses, d)
			return ctx.Err()
		},
	}
}

func describe(t *testing.T, list *List) string {
	t.Helper()
	var out strings.Builder
	for _, e := range list.Entries {
		text, err := json.Marshal(e.Object)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %s\n", e.Key, text)
	}
	return out.String()
}

// All pages are read, and retried where the service asks for it.
func TestSCIM(t *testing.T) {
	s := newService(t)
	var pauses []time.Duration
	s.answer = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		switch n {
		case 2:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case 3:
			w.WriteHeader(http.StatusBadGateway)
		default:
			return false
		}
		return true
	}
	client := s.client(&pauses)
	var progress []string
	client.Progress = func(endpoint string, got, total int) {
		progress = append(progress, fmt.Sprint(endpoint, got, "/", total))
	}
	list, err := client.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(pauses) != 2 || pauses[0] != 7*time.Second || pauses[1] < 2*time.Second || pauses[1] > 3*time.Second {
		t.Errorf("pauses %v", pauses)
	}
	if diff := cmp.Diff([]string{"Users2/5", "Users4/5", "Users5/5", "Groups2/4", "Groups4/4"}, progress); diff != "" {
		t.Error(diff)
	}
	got := describe(t, list)
	for _, note := range list.Notes {
		got += "note: " + strings.ReplaceAll(note, s.URL, "http://idp") + "\n"
	}
	golden(t, "testdata/scim.golden", []byte(got))
	if diff := cmp.Diff([]context.Kind{context.Person, context.Group}, list.Kinds); diff != "" {
		t.Error(diff)
	}
}

// Groups are known by what clusters call them.
func TestSCIMGroupID(t *testing.T) {
	s := newService(t)
	client := s.client(new([]time.Duration))
	client.GroupID = "{id}"
	list, err := client.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(t, list); !strings.Contains(got, "Group g1 ") || !strings.Contains(got, "Group g4 ") {
		t.Errorf("got\n%s", got)
	}
}

// A service without groups says nothing of them.
func TestSCIMWithoutGroups(t *testing.T) {
	s := newService(t)
	delete(s.resources, "Groups")
	list, err := s.client(new([]time.Duration)).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]context.Kind{context.Person}, list.Kinds); diff != "" {
		t.Error(diff)
	}
	if got := describe(t, list); !strings.Contains(got, "All of engineering") {
		t.Errorf("the groups that users say they are in are missing:\n%s", got)
	}
}

func TestSCIMFaults(t *testing.T) {
	write := func(code int, text string) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			fmt.Fprint(w, text)
			return true
		}
	}
	for name, tt := range map[string]struct {
		answer func(int, http.ResponseWriter, *http.Request) bool
		token  string
		want   string
		calls  int
	}{
		"no token":         {token: "wrong", want: `answered 401 Unauthorized "who are you?"; check the token`, calls: 1},
		"no such address":  {answer: write(404, "<html>"), want: "/Users: answered 404 Not Found; check the address", calls: 1},
		"down for good":    {answer: write(503, ""), want: "8 attempts: answered 503", calls: 8},
		"no JSON":          {answer: write(200, "<html>"), want: `no SCIM 2.0 answer, "<html>"`, calls: 1},
		"no total":         {answer: write(200, `{}`), want: "totalResults: missing", calls: 1},
		"cut off":          {answer: write(200, `{"totalResults":3,"Resources":[]}`), want: "3 resources announced, 0 given", calls: 1},
		"nobody":           {answer: write(200, `{"totalResults":0}`), want: "has no user at all", calls: 1},
		"too many":         {answer: write(200, `{"totalResults":3000000}`), want: "more than 2000000", calls: 1},
		"no id":            {answer: write(200, `{"totalResults":1,"Resources":[{"userName":"x"}]}`), want: "no id in", calls: 1},
		"active is a text": {answer: write(200, `{"totalResults":1,"Resources":[{"id":"7","active":"perhaps"}]}`), want: `resource 1, "7": want true or false`, calls: 1},
		"elsewhere": {answer: func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
			return true
		}, want: "answered 302 Found; give the address that it leads to", calls: 1},
		"come back tomorrow": {answer: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}, want: "it asks to come back in 24h0m0s", calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			s.answer = tt.answer
			client := s.client(new([]time.Duration))
			if tt.token != "" {
				client.Token = tt.token
			}
			list, err := client.Read(t.Context())
			if err == nil || list != nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), client.Token) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if len(s.requests) != tt.calls {
				t.Errorf("%d requests, want %d", len(s.requests), tt.calls)
			}
		})
	}
}

// Who stops waiting stops.
func TestSCIMCancelled(t *testing.T) {
	s := newService(t)
	ctx, cancel := stdcontext.WithCancel(t.Context())
	s.answer = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	client := s.client(new([]time.Duration))
	client.pause = func(ctx stdcontext.Context, _ time.Duration) error { cancel(); return wait(ctx, time.Hour) }
	if _, err := client.Read(ctx); !errors.Is(err, stdcontext.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSCIMSettings(t *testing.T) {
	for name, tt := range map[string]struct {
		scim SCIM
		want string
	}{
		"no address":       {SCIM{URL: "idp"}, "want its address"},
		"plain text":       {SCIM{URL: "http://idp.example/scim"}, "use https"},
		"password":         {SCIM{URL: "https://a:hunter2@idp.example/scim"}, "want its address"},
		"a query":          {SCIM{URL: "https://idp.example/scim?x=hunter2"}, "want its address"},
		"token of 2 lines": {SCIM{URL: "https://idp.example/scim", Token: "hunter2\nx"}, "white space"},
		"template":         {SCIM{URL: "https://idp.example/scim", Usernames: []Template{"{x}"}}, "{x} is no field"},
		"group template":   {SCIM{URL: "https://idp.example/scim", GroupID: "{email}"}, "{email} is no field"},
		"good":             {SCIM{URL: "http://127.0.0.1:8080/scim", Usernames: []Template{"{externalId}"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.scim.Check()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-1": 0, "soon": 0, "Sun, 01 Nov 2026 12:01:00 GMT": time.Minute, "Sun, 01 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Whatever a service answers, people have names of their own.
func FuzzSCIM(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "scim.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"Users":[{"id":"1","userName":"a"},{"id":"2","userName":"A","emails":[{"value":"a@b.example"}]}],"Groups":[{"id":"1","members":[{"value":"1"}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := parsePage(text); err != nil {
			return
		}
		var all struct {
			Users  []user
			Groups []group
		}
		if json.Unmarshal(text, &all) != nil {
			return
		}
		ids := map[string]bool{}
		all.Users = slices.DeleteFunc(all.Users, func(u user) bool { // as Read does
			twice := u.ID == "" || ids[u.ID]
			ids[u.ID] = true
			return twice
		})
		s := &SCIM{URL: "https://idp.example", Source: "idp", Usernames: []Template{"x:{externalId}"}}
		list, err := s.list(all.Users, all.Groups, true)
		if err != nil {
			t.Fatal(err)
		}
		of := map[string]context.Key{}
		for _, e := range list.Entries {
			names := []string{e.Key.String()}
			if p := e.Object.Person; p != nil {
				names = append(names, p.Usernames...)
			}
			for _, name := range names {
				if other, has := of[name]; has && other != e.Key || name == "" {
					t.Errorf("%q is of %s and %s", name, other, e.Key)
				}
				of[name] = e.Key
			}
		}
	})
}
