// Package ruletest makes batches for tests of rules: audit events as the API server writes
// them come in, batches as the rest of the pipeline knows them come out. It decodes with
// encoding/json and fills what rules look at; it is not the decoder of the pipeline.
package ruletest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/schemas"
)

type user struct {
	Username string              `json:"username"`
	UID      string              `json:"uid"`
	Groups   []string            `json:"groups"`
	Extra    map[string][]string `json:"extra"`
}

type auditEvent struct {
	Level       string            `json:"level"`
	AuditID     string            `json:"auditID"`
	Stage       string            `json:"stage"`
	RequestURI  string            `json:"requestURI"`
	Verb        string            `json:"verb"`
	User        user              `json:"user"`
	Impersonate *user             `json:"impersonatedUser"`
	SourceIPs   []string          `json:"sourceIPs"`
	UserAgent   string            `json:"userAgent"`
	Received    string            `json:"requestReceivedTimestamp"`
	StageTime   string            `json:"stageTimestamp"`
	Annotations map[string]string `json:"annotations"`
	ObjectRef   struct {
		Resource, Namespace, Name, UID, APIGroup, APIVersion, ResourceVersion, Subresource string
	} `json:"objectRef"`
	ResponseStatus struct {
		Status, Message, Reason string
		Code                    uint16
	} `json:"responseStatus"`
	AuthenticationMetadata struct {
		ImpersonationConstraint string `json:"impersonationConstraint"`
	} `json:"authenticationMetadata"`
}

// Event decodes raw, which the event keeps.
func Event(cluster string, raw []byte) (*schemas.Event, error) {
	var a auditEvent
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("decoding a test event: %w", err)
	}
	var hasher schemas.Hasher
	e := &schemas.Event{
		EventID: hasher.EventID(cluster, raw), Cluster: cluster, Platform: "kubernetes", Source: schemas.SourceWebhook,
		EventTime: micros(a.Received), StageTime: micros(a.StageTime), Level: a.Level, Stage: a.Stage,
		AuditID: a.AuditID, Verb: a.Verb, RequestURI: a.RequestURI, APIGroup: a.ObjectRef.APIGroup,
		APIVersion: a.ObjectRef.APIVersion, Resource: a.ObjectRef.Resource, Subresource: a.ObjectRef.Subresource,
		Namespace: a.ObjectRef.Namespace, Name: a.ObjectRef.Name, ObjectUID: a.ObjectRef.UID,
		ResourceVersion: a.ObjectRef.ResourceVersion, UserAgent: a.UserAgent, Code: a.ResponseStatus.Code,
		Status: a.ResponseStatus.Status, Reason: a.ResponseStatus.Reason, Message: a.ResponseStatus.Message,
		Decision: a.Annotations["authorization.k8s.io/decision"], DecisionReason: a.Annotations["authorization.k8s.io/reason"],
		User: a.User.Username, UserUID: a.User.UID, Groups: a.User.Groups, SourceIPs: a.SourceIPs,
		Actor: a.User.Username, ImpersonationConstraint: a.AuthenticationMetadata.ImpersonationConstraint, Raw: raw,
	}
	e.Client, _, _ = strings.Cut(a.UserAgent, "/")
	if n := len(a.SourceIPs); n > 0 {
		e.SourceIP = a.SourceIPs[n-1]
	}
	if a.Impersonate != nil {
		e.ImpersonatedUser, e.ImpersonatedUID = a.Impersonate.Username, a.Impersonate.UID
		e.ImpersonatedGroups, e.ImpersonatedExtra = a.Impersonate.Groups, extra(a.Impersonate.Extra)
	}
	e.Extra = extra(a.User.Extra)
	for _, kv := range e.Extra {
		if kv.Key == "authentication.kubernetes.io/credential-id" && len(kv.Values) > 0 {
			e.CredentialID = kv.Values[0]
		}
	}
	for key, v := range a.Annotations {
		e.Annotations = append(e.Annotations, schemas.KeyValue{Key: key, Value: v})
	}
	slices.SortFunc(e.Annotations, func(a, b schemas.KeyValue) int { return strings.Compare(a.Key, b.Key) })
	if e.Subresource == "exec" || e.Resource == "nodes" && e.Subresource == "proxy" {
		if u, err := url.Parse(a.RequestURI); err == nil {
			e.Command = u.Query()["command"]
		}
	}
	return e, nil
}

func micros(text string) int64 {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0
	}
	return schemas.Micros(t)
}

func extra(in map[string][]string) []schemas.KeyValues {
	var out []schemas.KeyValues
	for key, values := range in {
		out = append(out, schemas.KeyValues{Key: key, Values: values})
	}
	slices.SortFunc(out, func(a, b schemas.KeyValues) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Batch returns the events as the alert service gets them: through the wire format. The
// caller must Release it.
func Batch(events ...*schemas.Event) (arrow.RecordBatch, error) {
	b := schemas.NewBuilder()
	for _, e := range events {
		b.Append(e)
	}
	wire, err := schemas.Encode(b.Batch())
	if err != nil {
		return nil, err
	}
	return schemas.Decode(wire)
}

// Recording returns the lines of a gzip file of audit events.
func Recording(name string) ([][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	var lines [][]byte
	scanner := bufio.NewScanner(z)
	scanner.Buffer(nil, schemas.MaxEventBytes)
	for scanner.Scan() {
		lines = append(lines, bytes.Clone(scanner.Bytes()))
	}
	return lines, scanner.Err()
}
