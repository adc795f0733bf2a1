package offline_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/schemas"
)

// A recording is made with a real API server, of requests by many while roles and bindings change in all ways, and what is
// worked out of it is held against what the API server decided. See watch/real_test.go for how to build the binaries:
//
//	AUDITMILL_ETCD=$PWD/etcd AUDITMILL_KUBE_APISERVER=$PWD/kube-apiserver go test ./offline -run Real -v
func TestRealRecording(t *testing.T) {
	for _, level := range []string{"RequestResponse", "Request", "Metadata"} {
		t.Run(level, func(t *testing.T) {
			s := startServer(t, level)
			s.chaos(t)
			after := s.dump(t, "after")
			lines := s.lines(t)
			file := s.write(t, "events.jsonl", bytes.Join(lines, []byte("\n")))
			first := weigh(t, level == "RequestResponse", file, offline.Context{Dumps: []string{s.before}})
			weigh(t, false, file, offline.Context{Dumps: []string{after}})
			weigh(t, false, file, offline.Context{})
			mrand.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
			shuffled := weigh(t, false, s.write(t, "shuffled.jsonl", bytes.Join(lines, []byte("\n"))), offline.Context{Dumps: []string{s.before}})
			for id, row := range first {
				if shuffled[id] != row {
					t.Errorf("in order %s, shuffled %s", row, shuffled[id])
				}
			}
		})
	}
}

// weigh compares what the API server decided with what is worked out: never wrong, and if all is recorded never unknown.
func weigh(t *testing.T, all bool, file string, more offline.Context) map[string]string {
	t.Helper()
	rows, counts := map[string]string{}, map[string]int{}
	err := offline.ReadFiles(t.Context(), []string{file}, "prod", more, func(batch arrow.RecordBatch, origins []offline.Origin) error {
		for i := range origins {
			text := schemas.AppendRowJSON(nil, batch, i)
			var row struct {
				Fingerprint, User, Verb, Decision, Authorizer string
				URI                                           string `json:"request_uri"`
				Reason                                        string `json:"decision_reason"`
				Agreement                                     string `json:"grant_agreement"`
				Grants                                        []string
				Impersonation                                 string `json:"impersonation_allowed"`
			}
			if err := json.Unmarshal(text, &row); err != nil {
				return err
			}
			counts[strings.Join([]string{row.Decision, row.Authorizer, row.Agreement}, " ")]++
			rows[row.Fingerprint] = fmt.Sprint(row)
			reason, named := strings.CutPrefix(row.Reason, "RBAC: allowed by ")
			has := slices.ContainsFunc(row.Grants, func(g string) bool { return strings.HasPrefix(g, reason+" by rule ") })
			switch {
			case row.Agreement == "disagree", row.Impersonation == "false", row.Decision == "forbid" && len(row.Grants) > 0,
				named && has != (row.Agreement == "agree"), all && named && !has, all && row.Decision == "forbid" && row.Agreement != "agree":
				t.Errorf("wrong, or not known: %+v", row)
			}
		}
		return nil
	}, func(b offline.Bad) { t.Error(b) })
	if err != nil {
		t.Fatal(err)
	}
	t.Log(counts)
	return rows
}

type server struct {
	url, dir, before string
	client           *http.Client
	skip             int64 // of the log is older than the dump
}

type j = map[string]any

const root = "admin"

// callers are users with their groups; a token is called like its user.
func callers() map[string]string {
	return map[string]string{
		root: "system:masters", "alice": "dev,all", "oidc:bob": "ops", `qu"o\te`: `dev,we ird`, "a/b": "ops", "system:node:n1": "system:nodes", "eve": "",
	}
}

func (s *server) write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func startServer(t *testing.T, level string) *server {
	t.Helper()
	etcd, apiserver := os.Getenv("AUDITMILL_ETCD"), os.Getenv("AUDITMILL_KUBE_APISERVER")
	if etcd == "" || apiserver == "" {
		t.Skip("set AUDITMILL_ETCD and AUDITMILL_KUBE_APISERVER to binaries to record with a real API server")
	}
	s := &server{dir: t.TempDir(), client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 8, // it signs its own certificate
	}}}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := s.write(t, "sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	var tokens strings.Builder
	for name, groups := range callers() {
		fmt.Fprintf(&tokens, "%s,\"%s\",%s,\"%s\"\n", token(name), strings.ReplaceAll(name, `"`, `""`), token(name), groups)
	}
	tokenFile := s.write(t, "tokens.csv", []byte(tokens.String()))
	policy := s.write(t, "policy.yaml", []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: "+level+
		"\n  resources: [{group: rbac.authorization.k8s.io}]\n- level: Metadata\n"))
	var addresses []string
	for range 3 {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().String())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	client, peer := "http://"+addresses[0], "http://"+addresses[1]
	s.program(t, etcd, "--data-dir", filepath.Join(s.dir, "etcd"), "--log-level", "error", "--listen-client-urls", client,
		"--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	s.url = "https://" + addresses[2]
	_, port, _ := net.SplitHostPort(addresses[2])
	s.program(t, apiserver, "--etcd-servers", client, "--bind-address", "127.0.0.1", "--secure-port", port, "--cert-dir", s.dir,
		"--service-account-issuer", "https://cluster.test", "--service-account-key-file", keyFile, "--service-account-signing-key-file", keyFile,
		"--token-auth-file", tokenFile, "--authorization-mode", "Node,RBAC", "--service-cluster-ip-range", "10.96.0.0/24",
		"--disable-admission-plugins", "ServiceAccount", "--audit-policy-file", policy, "--audit-log-path", s.log())
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	poll := time.NewTicker(100 * time.Millisecond) // there is nothing else to wait for in a program of somebody else's
	defer poll.Stop()
	for {
		if code, _ := s.do(t, root, http.MethodGet, "/readyz", "", nil); code == http.StatusOK {
			break
		}
		select {
		case <-poll.C:
		case <-limit.C:
			t.Fatal("the API server never gets ready")
		}
	}
	s.before = s.dump(t, "before")
	if info, err := os.Stat(s.log()); err == nil {
		s.skip = info.Size()
	}
	return s
}

func (s *server) log() string { return filepath.Join(s.dir, "audit.log") }

func (s *server) program(t *testing.T, path string, args ...string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // killed
	})
}

func token(name string) string { return "token-" + url.QueryEscape(name) }

func (s *server) do(t *testing.T, as, method, path, contentType string, body any) (int, []byte) {
	t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			t.Error(err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, bytes.NewReader(text))
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	r.Header.Set("Authorization", "Bearer "+token(as))
	r.Header.Set("Content-Type", "application/"+contentType+"json")
	if contentType == "apply-patch+" {
		r.Header.Set("Content-Type", "application/apply-patch+yaml")
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer answer.Body.Close()
	text, _ = io.ReadAll(answer.Body) // what is missing shows in what is checked
	return answer.StatusCode, text
}

const rbacPath = "/apis/rbac.authorization.k8s.io/v1/"

func (s *server) dump(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, resource := range []string{"roles", "clusterroles", "rolebindings", "clusterrolebindings"} {
		code, text := s.do(t, root, http.MethodGet, rbacPath+resource, "", nil)
		if code != http.StatusOK {
			t.Fatalf("%s: %d %s", resource, code, text)
		}
		s.write(t, filepath.Join(name, resource+".json"), text)
	}
	return dir
}

func (s *server) lines(t *testing.T) [][]byte {
	t.Helper()
	text, err := os.ReadFile(s.log())
	if err != nil {
		t.Fatal(err)
	}
	// The dump may have been taken while the server was writing a line.
	first := bytes.LastIndexByte(text[:s.skip], '\n') + 1
	return bytes.Split(bytes.TrimSpace(text[first:]), []byte("\n"))
}

// chaos lets some change roles and bindings, and others make use of them.
func (s *server) chaos(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() { (&actor{s, mrand.New(mrand.NewPCG(1, uint64(n)))}).write(t) })
		wg.Go(func() { (&actor{s, mrand.New(mrand.NewPCG(2, uint64(n)))}).read(t) })
	}
	wg.Wait()
}

type actor struct {
	*server
	*mrand.Rand
}

func (a *actor) pick(from ...string) string { return from[a.IntN(len(from))] }

func (a *actor) caller() string {
	names := make([]string, 0, len(callers()))
	for name := range callers() {
		names = append(names, name)
	}
	slices.Sort(names)
	return a.pick(names...)
}

func (a *actor) read(t *testing.T) {
	t.Helper()
	for range 1200 {
		path := a.pick("/api/v1/namespaces/default/", "/api/v1/namespaces/kube-system/", "/api/v1/") + a.pick("pods", "configmaps", "secrets", "pods/a", "pods/a/log")
		if a.IntN(8) == 0 {
			path = a.pick("/healthz", "/metrics", "/custom/x")
		}
		a.do(t, a.caller(), a.pick(http.MethodGet, http.MethodGet, http.MethodPut, http.MethodDelete), path, "", j{})
	}
}

func (a *actor) write(t *testing.T) {
	t.Helper()
	for range 400 {
		kind, resource := "Role", "roles"
		bind := a.IntN(2) == 0
		if bind {
			kind, resource = "RoleBinding", "rolebindings"
		}
		collection := rbacPath
		if a.IntN(2) == 0 {
			kind, resource = "Cluster"+kind, "cluster"+resource
		} else {
			collection += "namespaces/" + a.pick("default", "kube-system") + "/"
		}
		collection += resource
		o := a.object(kind, a.pick("x", "y", `odd "z"`), bind)
		name := o["metadata"].(j)["name"].(string)
		path := collection + "/" + url.PathEscape(name)
		dry := ""
		if a.IntN(5) == 0 {
			dry = "?dryRun=All"
		}
		switch a.IntN(9) {
		case 0:
			a.do(t, root, http.MethodPost, collection+dry, "", o)
		case 1, 2:
			a.do(t, root, http.MethodPut, path+dry, "", o)
		case 3:
			delete(o, "roleRef")
			a.do(t, root, http.MethodPatch, path+dry, a.pick("merge-patch+", "strategic-merge-patch+"), o)
		case 4, 5:
			a.do(t, root, http.MethodPatch, path+"?fieldManager="+a.pick("a", "b")+"&force=true"+strings.Replace(dry, "?", "&", 1), "apply-patch+", o)
		case 6:
			a.do(t, root, http.MethodPatch, path, "json-patch+", []j{{"op": "remove", "path": a.pick("/rules/0", "/subjects/0", "/metadata/finalizers", "/metadata/labels")}})
		case 7:
			options := j{"kind": "DeleteOptions", "apiVersion": "v1"}
			if a.IntN(3) == 0 {
				options["dryRun"] = []string{"All"}
			}
			a.do(t, root, http.MethodDelete, path+dry, "", options) // the body counts
		case 8:
			a.do(t, root, http.MethodDelete, collection+"?labelSelector=l%3D"+a.pick("1", "2", "3"), "", nil)
		}
	}
}

func (a *actor) object(kind, name string, bind bool) j {
	metadata := j{"name": name, "labels": j{"l": a.pick("1", "2", "3")}}
	if a.IntN(8) == 0 {
		metadata["finalizers"] = []string{"auditmill.test/hold"}
	}
	o := j{"kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": metadata}
	if bind {
		role := "ClusterRole"
		if kind == "RoleBinding" {
			role = a.pick("Role", role)
		}
		o["roleRef"] = j{"kind": role, "name": name, "apiGroup": "rbac.authorization.k8s.io"}
		o["subjects"] = []j{{"kind": "User", "name": a.caller()}, {"kind": "Group", "name": a.pick("dev", "ops", "we ird", "system:authenticated")}}
		return o
	}
	rules := []j{{"verbs": []string{a.pick("get", "list", "update", "*")}, "apiGroups": []string{""}, "resources": []string{a.pick("pods", "configmaps", "*", "*/log")}}}
	if kind == "ClusterRole" {
		rules = append(rules, j{"verbs": []string{"get"}, "nonResourceURLs": []string{a.pick("/metrics", "/custom/*")}})
	}
	o["rules"] = rules
	return o
}
