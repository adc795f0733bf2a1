package schemas

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The topics that the services share.
const (
	TopicRaw           = "audit.raw.v1"
	TopicContext       = "audit.context.v1"
	TopicCredentials   = "audit.credentials.v1" //nolint:gosec // the name of a topic, not a credential
	TopicEnriched      = "audit.enriched.v1"
	TopicSignals       = "audit.signals.v1"
	TopicSeen          = "audit.seen.v1"
	TopicAlerts        = "audit.alerts.v1"
	TopicNotifications = "audit.notifications.v1"
	TopicSilences      = "audit.silences.v1"
	TopicDead          = "audit.dead.v1"
)

// Record headers. Every record carries HeaderVersion; the others belong to raw records.
const (
	HeaderVersion  = "v"        // major version of the record's format, decimal
	HeaderCluster  = "cluster"  // name of the cluster, from whoever was authenticated
	HeaderSource   = "source"   // how it came in: one of the Source constants
	HeaderReceived = "received" // when ingest had it, µs since 1970, decimal
	HeaderDamage   = "damage"   // why the event is known to be incomplete; absent otherwise
)

// Version is the major version of all record formats that this build writes and
// the newest one that it reads.
const Version = 1

// The values of HeaderSource.
const (
	SourceWebhook = "webhook"
	SourceFile    = "file"
)

// Topic says how a topic is created and what `auditmill topics` checks.
type Topic struct {
	Name       string
	Partitions int32
	// Configs are Kafka topic configurations.
	Configs map[string]string
	// Doc says what one record is.
	Doc string
}

// ContextPartitions is the number of partitions of TopicContext and TopicCredentials.
const ContextPartitions = 6

// ContextKept is how long TopicContext keeps a version for certain of which there is a newer one, and a deletion.
const ContextKept = 8 * 24 * time.Hour

// SignalPartitions is the number of partitions of TopicSignals and TopicSeen, which must be equal.
const SignalPartitions = 12

// MaxRecordBytes bounds one Kafka record in every topic: an event of MaxEventBytes,
// its enriched columns and the framing around them.
const MaxRecordBytes = 48 << 20

// MaxEventBytes bounds one audit event; a larger one goes to the dead-letter topic.
const MaxEventBytes = 16 << 20

// Topics returns every topic of the pipeline. partitions is the number for raw and
// enriched, which must be equal.
func Topics(partitions int32) []Topic {
	day := 24 * time.Hour
	retention := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	topics := []Topic{
		{
			TopicRaw, partitions,
			map[string]string{"cleanup.policy": "delete", "retention.ms": retention(7 * day)},
			"one audit event, the sender's bytes",
		},
		{
			// A version is kept for longer than raw events are, even if there is a newer one: whoever enriches old
			// events again must find what was true then. A deletion is a tombstone with headers.
			TopicContext, ContextPartitions,
			map[string]string{
				"cleanup.policy": "compact", "min.compaction.lag.ms": retention(ContextKept), "delete.retention.ms": retention(ContextKept),
			},
			"one version of one RBAC or identity object, JSON",
		},
		{
			// Tokens are many and live for an hour; those that live for more than a day are in TopicContext.
			TopicCredentials, ContextPartitions,
			map[string]string{"cleanup.policy": "delete", "retention.ms": retention(2 * day)},
			"who requested one short-lived token, JSON",
		},
		{
			TopicEnriched, partitions,
			map[string]string{"cleanup.policy": "delete", "retention.ms": retention(7 * day)},
			"one Arrow IPC stream of enriched events",
		},
		{
			// Twice the longest timespan of a correlation but for first_seen, which has its memory in
			// TopicSeen: enough for a week.
			TopicSignals, SignalPartitions,
			map[string]string{"cleanup.policy": "delete", "retention.ms": retention(14 * day)},
			"one match of a rule that counts for a correlation, or one clock, JSON",
		},
		{
			// By partition what belongs to the signals of the partition with the same number.
			TopicSeen, SignalPartitions,
			map[string]string{"cleanup.policy": "compact"},
			"what a first_seen correlation remembers of one combination of values, JSON",
		},
		{
			TopicAlerts, 6,
			map[string]string{"cleanup.policy": "compact,delete", "retention.ms": retention(30 * day)},
			"one alert, JSON",
		},
		{
			TopicNotifications, 6,
			map[string]string{"cleanup.policy": "compact,delete", "retention.ms": retention(35 * day)},
			"what was posted where about one group of alerts, JSON",
		},
		{
			TopicSilences, 1,
			map[string]string{"cleanup.policy": "compact"},
			"one silence, acknowledgement or maintenance window with all its changes, JSON",
		},
		{
			TopicDead, 3,
			map[string]string{"cleanup.policy": "delete", "retention.ms": retention(14 * day)},
			"what could not be processed: original bytes, reason in the headers",
		},
	}
	for i := range topics {
		topics[i].Configs["max.message.bytes"] = strconv.Itoa(MaxRecordBytes)
	}
	return topics
}

// ErrNewerVersion says that a record was written by a newer build, so it must not be guessed at.
var ErrNewerVersion = errors.New("newer format")

// CheckVersion refuses a record of a newer major version than this build knows.
// value is the record's HeaderVersion; missing says that it had none.
func CheckVersion(value []byte, missing bool) error {
	if missing {
		return fmt.Errorf("record has no %q header: not written by auditmill", HeaderVersion)
	}
	n, err := strconv.Atoi(string(value))
	if err != nil || n < 1 {
		return fmt.Errorf("record header %q is %q, not a version number", HeaderVersion, value)
	}
	if n > Version {
		return fmt.Errorf("%w: record has format version %d, this build reads up to %d: upgrade this service first",
			ErrNewerVersion, n, Version)
	}
	return nil
}
