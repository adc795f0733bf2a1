package feed

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// shortLived is how long a token may live to be kept in audit.credentials.v1, which forgets. There are many of them.
const shortLived = 24 * time.Hour

// Records makes the records of changes of a cluster, in their order.
func Records(cluster string, changes []context.Change) ([]*kgo.Record, error) {
	records := make([]*kgo.Record, 0, len(changes))
	for i := range changes {
		r, err := recordOf(cluster, &changes[i])
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

func recordOf(cluster string, c *context.Change) (*kgo.Record, error) {
	r := &kgo.Record{
		Topic: topicOf(c), Key: []byte(context.RecordKey(cluster, c)),
		Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: fmt.Append(nil, schemas.Version)}},
	}
	if headers, ok := context.Tombstone(cluster, c); ok {
		for _, h := range headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
		}
		return r, nil
	}
	var err error
	r.Value, err = context.AppendRecord(nil, cluster, c)
	return r, err
}

func topicOf(c *context.Change) string {
	if c.Object == nil || c.Object.Credential == nil {
		return schemas.TopicContext
	}
	// Of most tokens is not known when they expire; nearly all do within the hour.
	if expires := c.Object.Credential.Expires; expires-c.From > shortLived.Microseconds() {
		return schemas.TopicContext
	}
	return schemas.TopicCredentials
}

// parse reads a record. It fails on records of a newer format, which must not be guessed at.
func parse(r *kgo.Record) (cluster string, c context.Change, err error) {
	var version []byte
	missing := true
	var headers []schemas.KeyValue
	for _, h := range r.Headers {
		if h.Key == schemas.HeaderVersion {
			version, missing = h.Value, false
			continue
		}
		headers = append(headers, schemas.KeyValue{Key: h.Key, Value: string(h.Value)})
	}
	if err := schemas.CheckVersion(version, missing); err != nil {
		return "", c, err
	}
	if r.Value == nil {
		return context.ParseTombstone(string(r.Key), headers)
	}
	return context.ParseRecord(r.Value)
}

// clusterOf returns the cluster that the key of a record names, for those whose value cannot be read.
func clusterOf(r *kgo.Record) string {
	cluster, _, _ := strings.Cut(string(r.Key), "/")
	return cluster
}
