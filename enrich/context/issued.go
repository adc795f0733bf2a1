package context

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// issued returns the credential that a request for a token gave out.
func (s *Store) issued(e *schemas.Event) []Change {
	if e.Resource != "serviceaccounts" || e.Subresource != "token" {
		return nil
	}
	credential := &CredentialInfo{
		By: strings.Clone(e.Actor), Subject: "system:serviceaccount:" + e.Namespace + ":" + e.Name, Expires: s.expiry(e),
	}
	return []Change{{
		Key: Key{Kind: Credential, Name: strings.Clone(e.IssuedCredentialID)}, From: s.ended(e),
		Object: &Object{Credential: credential}, Source: SourceAudit, By: credential.By,
	}}
}

// expiry returns when the token of a token request expires, 0 if the event does not tell.
func (s *Store) expiry(e *schemas.Event) int64 {
	if t, err := time.Parse(time.RFC3339, textAt(e.ResponseObject, "status", "expirationTimestamp")); err == nil {
		return t.UnixMicro()
	}
	if spec, ok := jsonscan.Get(e.RequestObject, "spec"); ok && spec[0] == '{' {
		if value, ok := jsonscan.Get(spec, "expirationSeconds"); ok {
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 && n < 1<<40 {
				return s.ended(e) + n*int64(time.Second/time.Microsecond)
			}
		}
	}
	return 0
}

// signed returns the client certificate that a certificate signing request has got, as far as the event has the answer. It
// is By who asked for it, by the name that the request carries: an e-mail address as it is, any other name as one of the
// cluster, which is what the actor of an event is called if the name is all there is. Where the request carries more, as
// of identities of AWS and Azure, it is not known who that is.
func (s *Store) signed(cluster string, e *schemas.Event) ([]Change, error) {
	if e.Resource != "certificatesigningrequests" {
		return nil, nil
	}
	response := e.ResponseObject
	if response == nil {
		return nil, nil
	}
	w, err := parseObject(response)
	if w == nil || w.certificate == "" {
		return nil, nil
	}
	var certificate *x509.Certificate
	if err == nil {
		certificate, err = readCertificate(w.certificate)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate signing request %s in cluster %q: status.certificate: %w; who uses the certificate stays unknown",
			e.Name, cluster, err)
	}
	sum := sha256.Sum256(certificate.Raw)
	o := &Object{
		Metadata: Metadata{UID: w.Metadata.UID},
		Credential: &CredentialInfo{
			By: requester(cluster, w), Subject: strings.Clone(certificate.Subject.CommonName), Expires: certificate.NotAfter.UnixMicro(),
		},
	}
	return []Change{{
		Key: Key{Kind: Credential, Name: "X509SHA256=" + hex.EncodeToString(sum[:])}, From: s.ended(e),
		Object: o, Source: SourceAudit, By: o.Credential.By,
	}}, nil
}

// requester returns the actor that a signing request names, "" if that is not clear.
func requester(cluster string, w *wire) string {
	switch {
	case w.username == "" || w.foreign:
		return ""
	case mail(w.username):
		return strings.ToLower(w.username)
	}
	return cluster + "/" + w.username
}

// readCertificate reads the first of a chain of certificates, PEM in base64.
func readCertificate(text string) (*x509.Certificate, error) {
	chain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, errNotPEM
	}
	return x509.ParseCertificate(block.Bytes)
}
