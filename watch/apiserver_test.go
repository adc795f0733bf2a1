package watch

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// apiServer speaks the protocol of lists and watches as API servers do: pages of one moment, chunked events, bookmarks,
// resource versions that expire, and refusals.
type apiServer struct {
	*httptest.Server
	t *testing.T

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced with each event
	revision  int
	compacted int // events up to this revision are gone
	objects   map[string]map[string]j
	events    map[string][]event // by path
	pages     map[string][]j     // what is left of lists that were begun, by continue token
	lists     map[string]int     // requests, by path; continued ones are counted under path+"+"
	watches   map[string]int
	refuse    func(path string) int // status with which a request is refused, 0 to answer it
	expire    string                // "answer" or "stream": how a watch from an expired revision is refused
	noPages   bool                  // continue tokens have expired
}

type event struct {
	revision int
	line     []byte
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{
		t: t, changed: make(chan struct{}), revision: 1000, objects: map[string]map[string]j{}, events: map[string][]event{},
		pages: map[string][]j{}, lists: map[string]int{}, watches: map[string]int{}, expire: "answer",
		refuse: func(string) int { return 0 },
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.StartTLS() // client-go sends no token without
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// config is a cluster of that name that this is.
func (s *apiServer) config(name string) Cluster {
	return Cluster{Name: name, Kubeconfig: kubeconfig(s.t, watchToken, map[string]string{name: s.URL}), Context: name}
}

// set changes something under the lock.
func (s *apiServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// get reads something under the lock.
func get[T any](s *apiServer, read func() T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return read()
}

func pathOf(kind string) string {
	r, ok := resourceOf(kind)
	if !ok {
		panic(kind)
	}
	return r.path
}

// put creates or changes an object, and returns its uid.
func (s *apiServer) put(kind, namespace, name string, fields j) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, key := pathOf(kind), namespace+"/"+name
	if s.objects[path] == nil {
		s.objects[path] = map[string]j{}
	}
	s.revision++
	meta := j{
		"name": name, "uid": fmt.Sprintf("uid-%d", s.revision), "creationTimestamp": time.Now().UTC().Format(time.RFC3339),
		"managedFields": []j{{"manager": "kubectl", "operation": "Update", "fieldsV1": j{"f:metadata": j{}}}},
	}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	what := "ADDED"
	if old, ok := s.objects[path][key]; ok {
		what = "MODIFIED"
		was := old["metadata"].(j)
		meta["uid"], meta["creationTimestamp"] = was["uid"], was["creationTimestamp"]
	}
	meta["resourceVersion"] = strconv.Itoa(s.revision)
	o := j{"metadata": meta}
	for k, v := range fields {
		if k == "metadata" {
			maps.Copy(meta, v.(j))
			continue
		}
		o[k] = v
	}
	s.objects[path][key] = o
	s.emit(path, what, o)
	return meta["uid"].(string)
}

func (s *apiServer) delete(kind, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, key := pathOf(kind), namespace+"/"+name
	o := s.objects[path][key]
	delete(s.objects[path], key)
	s.revision++
	last, meta := maps.Clone(o), maps.Clone(o["metadata"].(j))
	meta["resourceVersion"] = strconv.Itoa(s.revision)
	last["metadata"] = meta
	s.emit(path, "DELETED", last)
}

// bookmark tells the watches of a kind that there was nothing else.
func (s *apiServer) bookmark(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emit(pathOf(kind), "BOOKMARK", j{"kind": "Any", "apiVersion": "v1", "metadata": j{"resourceVersion": strconv.Itoa(s.revision)}})
}

func (s *apiServer) emit(path, what string, o j) {
	line, err := json.Marshal(j{"type": what, "object": o})
	if err != nil {
		panic(err)
	}
	s.events[path] = append(s.events[path], event{s.revision, append(line, '\n')})
	close(s.changed)
	s.changed = make(chan struct{})
}

// compact forgets all events.
func (s *apiServer) compact() {
	s.set(func() { s.compacted = s.revision })
}

// status answers as API servers refuse.
func status(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(statusOf(code, reason, message)) // the client may be gone
}

func statusOf(code int, reason, message string) j {
	return j{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	s.mu.Lock()
	switch {
	case query.Get("watch") == "true":
		s.watches[r.URL.Path]++
	case query.Get("continue") != "":
		s.lists[r.URL.Path+"+"]++
	default:
		s.lists[r.URL.Path]++
	}
	code := s.refuse(r.URL.Path)
	s.mu.Unlock()
	switch {
	case r.Method != http.MethodGet || strings.Contains(r.URL.Path, "secrets"):
		s.t.Errorf("the watch asks for %s %s", r.Method, r.URL.Path)
		status(w, http.StatusForbidden, "Forbidden", "no")
	case r.Header.Get("Authorization") != "Bearer "+watchToken:
		status(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
	case code == http.StatusForbidden:
		status(w, code, "Forbidden", `User "watcher" cannot do that`)
	case code != 0:
		status(w, code, "", "refused")
	case query.Get("watch") == "true":
		s.watch(w, r)
	default:
		s.list(w, r)
	}
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	query := r.URL.Query()
	if query.Get("resourceVersion") != "" {
		s.t.Errorf("%s is listed with resourceVersion=%s, which may be answered from a stale cache", r.URL.Path, query.Get("resourceVersion"))
	}
	version := strconv.Itoa(s.revision)
	items := []j{}
	if token := query.Get("continue"); token != "" {
		if s.noPages {
			status(w, http.StatusGone, "Expired", "the continue token is too old")
			return
		}
		items = s.pages[token]
		version, _, _ = strings.Cut(token, ":")
	} else {
		for _, o := range s.objects[r.URL.Path] {
			items = append(items, o)
		}
		slices.SortFunc(items, func(x, y j) int {
			return strings.Compare(fmt.Sprint(x["metadata"].(j)["namespace"], x["metadata"].(j)["name"]),
				fmt.Sprint(y["metadata"].(j)["namespace"], y["metadata"].(j)["name"]))
		})
	}
	meta := j{"resourceVersion": version}
	if limit, err := strconv.Atoi(query.Get("limit")); err == nil && limit < len(items) {
		token := fmt.Sprintf("%s:%s:%d", version, r.URL.Path, len(items))
		s.pages[token] = items[limit:]
		items, meta["continue"] = items[:limit], token
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(j{"kind": "AnyList", "apiVersion": "v1", "metadata": meta, "items": items}) // the client may be gone
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	since, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if err != nil {
		s.t.Errorf("%s is watched from resourceVersion %q", r.URL.Path, r.URL.Query().Get("resourceVersion"))
	}
	s.mu.Lock()
	gone, how := since < s.compacted, s.expire
	s.mu.Unlock()
	if gone && how == "answer" {
		status(w, http.StatusGone, "Expired", "too old resource version")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush := func() { w.(http.Flusher).Flush() }
	if gone {
		_ = json.NewEncoder(w).Encode(j{"type": "ERROR", "object": statusOf(http.StatusGone, "Expired", "too old resource version")})
		return
	}
	flush()
	next := -1
	for {
		s.mu.Lock()
		events, changed := s.events[r.URL.Path], s.changed
		s.mu.Unlock()
		if next < 0 {
			next = 0
			for next < len(events) && events[next].revision <= since {
				next++
			}
		}
		for ; next < len(events); next++ {
			if _, err := w.Write(events[next].line); err != nil {
				return
			}
		}
		flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
