package watch

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/enrich/context"
)

// The binaries of a real control plane. They are built from their modules, in a module of one's own:
//
//	go build -o etcd go.etcd.io/etcd/server/v3
//	go build -o kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver   # with replaces of k8s.io/*, see enrich/rbac/difftest/go.mod
//	AUDITMILL_ETCD=$PWD/etcd AUDITMILL_KUBE_APISERVER=$PWD/kube-apiserver go test ./watch -run Real -v
const (
	etcdVariable      = "AUDITMILL_ETCD"
	apiserverVariable = "AUDITMILL_KUBE_APISERVER"
)

// plane is a real API server with its etcd.
type plane struct {
	url    string
	client *http.Client
	run    func() // starts the API server and waits until it is ready
	kill   func() // ends it
}

const (
	adminToken = "admin-token"
	watchToken = "watch-token"
)

func startPlane(t *testing.T) *plane {
	t.Helper()
	etcd, apiserver := os.Getenv(etcdVariable), os.Getenv(apiserverVariable)
	if etcd == "" || apiserver == "" {
		t.Skipf("set %s and %s to binaries to run against a real API server", etcdVariable, apiserverVariable)
	}
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := write("sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	tokens := write("tokens.csv", []byte(adminToken+",admin,1,system:masters\n"+watchToken+",watcher,2\n"))
	client, peer, port := freeAddress(t), freeAddress(t), freeAddress(t)
	program(t, etcd, "--data-dir", filepath.Join(dir, "etcd"), "--log-level", "error",
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client, "--listen-peer-urls", "http://"+peer,
		"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	_, number, _ := net.SplitHostPort(port)
	p := &plane{
		url: "https://" + port,
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it signs its own certificate
		}},
	}
	p.run = func() {
		p.kill = program(t, apiserver, "--etcd-servers", "http://"+client, "--bind-address", "127.0.0.1", "--secure-port", number,
			"--cert-dir", filepath.Join(dir, "certs"), "--service-account-issuer", "https://cluster.test",
			"--service-account-key-file", keyFile, "--service-account-signing-key-file", keyFile, "--token-auth-file", tokens,
			"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/24", "--disable-admission-plugins", "ServiceAccount")
		limit := time.NewTimer(patience)
		defer limit.Stop()
		poll := time.NewTicker(100 * time.Millisecond) // there is nothing else to wait for in a program of somebody else's
		defer poll.Stop()
		for {
			if code, _ := p.do(t, http.MethodGet, "/readyz", nil); code == http.StatusOK {
				return
			}
			select {
			case <-poll.C:
			case <-limit.C:
				t.Fatal("the API server never gets ready")
			}
		}
	}
	p.run()
	return p
}

// program starts a program, and ends it with the test or when told to.
func program(t *testing.T, path string, args ...string) (kill func()) {
	t.Helper()
	var out buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // killed
	}
	t.Cleanup(func() {
		kill()
		if t.Failed() {
			text := out.String()
			t.Logf("%s said: … %s", filepath.Base(path), text[max(0, len(text)-4000):])
		}
	})
	return kill
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

func (p *plane) do(t *testing.T, method, path string, body any) (int, []byte) {
	t.Helper()
	contentType := "application/json"
	if method == http.MethodPatch {
		contentType = "application/merge-patch+json"
	}
	return do(t, p.client, method, p.url+path, adminToken, contentType, body)
}

// must does it, or the test ends.
func (p *plane) must(t *testing.T, method, path string, body any) object {
	t.Helper()
	code, answer := p.do(t, method, path, body)
	if code < 200 || code > 299 {
		t.Fatalf("%s %s: %d %s", method, path, code, answer)
	}
	var meta struct {
		Metadata struct{ UID, ResourceVersion string }
	}
	if err := json.Unmarshal(answer, &meta); err != nil {
		t.Fatal(err)
	}
	o := object{}
	o.ResourceVersion = meta.Metadata.ResourceVersion
	return o
}

type j = map[string]any

// apply creates the objects of a YAML file. Bindings name the user of the watch besides.
func (p *plane) apply(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o j
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		switch o["kind"] {
		case "Namespace":
			p.must(t, http.MethodPost, "/api/v1/namespaces", o)
		case "ServiceAccount":
			p.must(t, http.MethodPost, "/api/v1/namespaces/auditmill/serviceaccounts", o)
		case "ClusterRole":
			p.must(t, http.MethodPost, rbacPath+"clusterroles", o)
		case "ClusterRoleBinding":
			o["subjects"] = append(o["subjects"].([]any), j{"kind": "User", "name": "watcher", "apiGroup": "rbac.authorization.k8s.io"})
			p.must(t, http.MethodPost, rbacPath+"clusterrolebindings", o)
		default:
			t.Fatalf("%s: cannot apply %v", path, o["kind"])
		}
	}
}

const rbacPath = "/apis/rbac.authorization.k8s.io/v1/"

func TestRealAPIServer(t *testing.T) {
	p := startPlane(t)
	p.apply(t, filepath.Join("..", "deploy", "kubernetes", "watch-rbac.yaml"))
	role := j{"metadata": j{"name": "deployer"}, "rules": []j{{"apiGroups": []string{""}, "resources": []string{"secrets"}, "verbs": []string{"get"}}}}
	p.must(t, http.MethodPost, rbacPath+"namespaces/default/roles", role)
	p.must(t, http.MethodPost, "/api/v1/nodes", j{"metadata": j{"name": "n1"}, "spec": j{"podCIDRs": []string{"10.1.0.0/24"}, "podCIDR": "10.1.0.0/24"}})

	to := newTopic(t)
	cfg := quick(Cluster{Name: "real", Kubeconfig: kubeconfig(t, watchToken, map[string]string{"real": p.url})})
	cfg.PageSize = 10
	first := start(t, to, cfg)
	first.ready.until(t)
	if strings.Contains(first.log.String(), "cannot be read") {
		t.Error("the ClusterRole that is shipped does not suffice")
	}
	to.until(t, "all is there", func() bool {
		c := to.store.Cluster("real")
		for _, r := range resources() {
			if !c.Complete(r.kind, latest) {
				return false
			}
		}
		return to.count("real", context.ClusterRole) > 60 && to.find("real", context.Role, "default", "deployer") != nil &&
			to.find("real", context.Node, "", "n1") != nil
	})
	t.Logf("%d records: %d cluster roles, %d bindings", to.records(t), to.count("real", context.ClusterRole),
		to.count("real", context.ClusterRoleBinding)+to.count("real", context.RoleBinding))

	// What happens is seen.
	p.must(t, http.MethodPost, "/api/v1/namespaces", j{"metadata": j{"name": "shop", "labels": j{"team": "payments"}}})
	p.must(t, http.MethodPost, "/api/v1/namespaces/shop/serviceaccounts",
		j{"metadata": j{"name": "till", "annotations": j{"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/till"}}})
	p.must(t, http.MethodPost, rbacPath+"namespaces/default/rolebindings", j{
		"metadata": j{"name": "deploy"}, "roleRef": j{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
		"subjects": []j{{"kind": "ServiceAccount", "name": "till", "namespace": "shop"}},
	})
	p.must(t, http.MethodPost, "/api/v1/namespaces/shop/pods", j{
		"metadata": j{"name": "till-1", "ownerReferences": []j{{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "till", "uid": "u", "controller": true}}},
		"spec":     j{"serviceAccountName": "till", "nodeName": "n1", "containers": []j{{"name": "c", "image": "i", "env": []j{{"name": "PASSWORD", "value": "hunter2"}}}}},
	})
	p.must(t, http.MethodPatch, "/api/v1/namespaces/shop/pods/till-1/status", j{"status": j{"podIP": "10.1.0.7", "podIPs": []j{{"ip": "10.1.0.7"}}, "phase": "Running"}})
	to.until(t, "the pod runs", func() bool {
		a, ok := to.store.Cluster("real").Address("10.1.0.7", latest)
		return ok && a.Node == "n1" && a.Pod.Name == "till-1" && to.find("real", context.RoleBinding, "default", "deploy") != nil
	})
	sa := to.find("real", context.ServiceAccount, "shop", "till")
	if sa == nil || sa.Object.Metadata.Annotations["eks.amazonaws.com/role-arn"] == "" {
		t.Errorf("the service account is %+v", sa)
	}

	// A watch that is away misses nothing but the times.
	first.stop()
	away := time.Now()
	before := to.records(t)
	p.must(t, http.MethodDelete, rbacPath+"namespaces/default/rolebindings/deploy", nil)
	p.must(t, http.MethodPatch, rbacPath+"namespaces/default/roles/deployer", j{"rules": []j{{"apiGroups": []string{""}, "resources": []string{"pods"}, "verbs": []string{"get"}}}})
	second := start(t, to, cfg)
	second.ready.until(t)
	to.until(t, "the changes are healed", func() bool {
		r := to.find("real", context.Role, "default", "deployer")
		return r != nil && r.Object.Rules[0].Resources[0] == "pods" && to.find("real", context.RoleBinding, "default", "deploy") == nil
	})
	healed := to.records(t) - before
	t.Logf("%d records for two changes while nobody watched", healed)
	if item := to.find("real", context.Role, "default", "deployer"); item.From < away.UnixMicro() {
		t.Errorf("the role is said to be so since %v, before anybody saw it", time.UnixMicro(item.From))
	}

	// The API server restarts; what changes then is seen without a new start.
	p.kill()
	p.run()
	p.must(t, http.MethodPost, rbacPath+"clusterroles", j{"metadata": j{"name": "after"}, "rules": []j{}})
	to.until(t, "it is seen after the restart", func() bool { return to.find("real", context.ClusterRole, "", "after") != nil })
	if text := first.log.String() + second.log.String(); strings.Contains(text, "hunter2") {
		t.Error("the environment of a pod is in the log")
	}
}
