package webhook

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

type hash [sha256.Size]byte

// secret is the hash of a token and the clusters that it stands for.
type secret struct {
	hash     hash
	clusters []string
}

// authenticator finds out which cluster a request is from. The cluster never comes from
// the body, which the sender's users have written.
type authenticator struct {
	cfg     Config
	known   map[string]bool
	secrets atomic.Pointer[[]secret]
}

func newAuthenticator(cfg Config) (*authenticator, error) {
	a := &authenticator{cfg: cfg, known: map[string]bool{}}
	for _, name := range cfg.Clusters() {
		a.known[name] = true
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	return a, nil
}

// load reads the tokens; on an error those read before stay.
func (a *authenticator) load() error {
	var secrets []secret
	at := map[hash]int{}
	var errs []error
	for i, t := range a.cfg.Tokens {
		h, err := t.hash()
		if err != nil {
			errs = append(errs, fmt.Errorf("ingest.webhook.tokens[%d].%w", i, err))
			continue
		}
		if _, ok := at[h]; !ok {
			at[h] = len(secrets)
			secrets = append(secrets, secret{hash: h})
		}
		s := &secrets[at[h]]
		s.clusters = append(s.clusters, t.Cluster)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.secrets.Store(&secrets)
	return nil
}

func (t Token) hash() (h hash, err error) {
	if t.File != "" {
		token, err := readToken(t.File)
		if err != nil {
			return h, fmt.Errorf("token_file: %w", err)
		}
		return sha256.Sum256([]byte(token)), nil
	}
	sum, err := hex.DecodeString(t.SHA256)
	if err != nil || len(sum) != len(h) {
		return h, errors.New("token_sha256: must be 64 hexadecimal digits: printf %s \"$TOKEN\" | sha256sum")
	}
	return hash(sum), nil
}

// cluster returns the cluster that r is from; path is the one that its URL names, if any.
// A request may show a token, a certificate or both; what it shows must agree.
func (a *authenticator) cluster(r *http.Request, path string) (string, *problem) {
	token, shown, bad := bearer(r)
	if bad != nil {
		return "", bad
	}
	var allowed []string
	if shown {
		if allowed = a.byToken(token); len(allowed) == 0 {
			return "", unauthorized("bad_token", "the bearer token is not known",
				"check the token of the webhook's kubeconfig against ingest.webhook.tokens")
		}
	}
	byCertificate, hasCertificate := a.byCertificate(r)
	switch {
	case len(allowed) == 0:
		allowed = byCertificate
	case len(byCertificate) > 0:
		allowed = slices.DeleteFunc(slices.Clone(allowed), func(name string) bool {
			return !slices.Contains(byCertificate, name)
		})
		if len(allowed) == 0 {
			return "", forbidden("credentials_differ", "token and certificate are those of different clusters",
				"give the webhook's kubeconfig the credentials of one cluster")
		}
	}
	switch {
	case len(allowed) == 0:
		return a.anonymous(path, hasCertificate)
	case path == "" && len(allowed) == 1:
		return allowed[0], nil
	case path == "":
		return "", forbidden("ambiguous_cluster", "the credentials stand for several clusters",
			"POST to /v1/audit/ followed by the name of the cluster")
	case slices.Contains(allowed, path):
		return path, nil
	case !a.known[path]:
		return "", forbidden("unknown_cluster", "the cluster in the URL is not configured",
			"correct the URL, or add the cluster to ingest.webhook.tokens")
	}
	return "", forbidden("wrong_cluster", "the credentials are not those of the cluster in the URL",
		"POST to /v1/audit, or to /v1/audit/ followed by the cluster of the credentials")
}

func (a *authenticator) anonymous(path string, hasCertificate bool) (string, *problem) {
	if path == "" && len(a.cfg.Anonymous) == 1 {
		path = a.cfg.Anonymous[0]
	}
	if slices.Contains(a.cfg.Anonymous, path) {
		return path, nil
	}
	if hasCertificate {
		return "", forbidden("unknown_certificate", "the client certificate stands for no cluster",
			"add its common name, URI or DNS name to ingest.webhook.certificates")
	}
	if len(a.cfg.Anonymous) > 0 && path != "" && !a.known[path] {
		return "", forbidden("unknown_cluster", "the cluster in the URL is not configured",
			"add it to ingest.webhook.anonymous, or correct the URL")
	}
	return "", unauthorized("no_credentials", "the request has no bearer token and no client certificate",
		"give the webhook's kubeconfig a token or a client certificate")
}

// byToken looks at every hash, whichever matches, so that the time it takes says nothing.
func (a *authenticator) byToken(token string) []string {
	sum := hash(sha256.Sum256([]byte(token)))
	secrets := *a.secrets.Load()
	at := -1
	for i := range secrets {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], secrets[i].hash[:]), i, at)
	}
	if at < 0 {
		return nil
	}
	return secrets[at].clusters
}

func (a *authenticator) byCertificate(r *http.Request) (clusters []string, shown bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil, false
	}
	cert := r.TLS.VerifiedChains[0][0]
	for _, m := range a.cfg.Certificates {
		if m.matches(cert) {
			clusters = append(clusters, m.Cluster)
		}
	}
	return clusters, true
}

func (m Certificate) matches(cert *x509.Certificate) bool {
	switch {
	case m.CommonName != "":
		return cert.Subject.CommonName == m.CommonName
	case m.DNS != "":
		return slices.Contains(cert.DNSNames, m.DNS)
	}
	for _, u := range cert.URIs {
		if u.String() == m.URI {
			return m.URI != ""
		}
	}
	return false
}

func bearer(r *http.Request) (token string, shown bool, bad *problem) {
	values := r.Header.Values("Authorization")
	switch len(values) {
	case 0:
		return "", false, nil
	case 1:
		scheme, rest, ok := strings.Cut(values[0], " ")
		if ok && strings.EqualFold(scheme, "bearer") && strings.TrimSpace(rest) != "" {
			return strings.TrimSpace(rest), true, nil
		}
	}
	return "", false, unauthorized("bad_scheme", "the Authorization header is not one bearer token",
		"send Authorization: Bearer followed by the token")
}

func trimLineEnd(s string) string { return strings.TrimRight(s, "\r\n") }
