package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Class says what kind of error Kafka gave. The set is closed, so that it can be a label of
// a metric.
type Class string

// The classes of errors.
const (
	ClassCancelled Class = "cancelled" // the caller or the client is stopping
	ClassNetwork   Class = "network"   // no connection, or it broke
	ClassTimeout   Class = "timeout"   // no answer in time
	ClassBroker    Class = "broker"    // a condition that passes: an election, a restart
	ClassTopic     Class = "topic"     // the topic or the partition is missing
	ClassRebalance Class = "rebalance" // the group is moving partitions
	ClassOverload  Class = "overload"  // a buffer is full
	ClassAuth      Class = "auth"      // the log-in or a permission is missing
	ClassTLS       Class = "tls"       // certificates or protocols do not fit
	ClassFenced    Class = "fenced"    // another instance has taken over
	ClassTooLarge  Class = "too_large" // this record will never be accepted
	ClassDataLoss  Class = "data_loss" // records disappeared before they were read
	ClassOther     Class = "other"     // everything else
)

// Classes lists all classes.
func Classes() []Class {
	return []Class{
		ClassCancelled, ClassNetwork, ClassTimeout, ClassBroker, ClassTopic, ClassRebalance,
		ClassOverload, ClassAuth, ClassTLS, ClassFenced, ClassTooLarge, ClassDataLoss, ClassOther,
	}
}

// Transient reports whether trying again is right: nothing is wrong with the record or the
// configuration. It is retried with backoff and given up only when the context ends.
func Transient(err error) bool {
	switch ClassOf(err) {
	case ClassNetwork, ClassTimeout, ClassBroker, ClassTopic, ClassRebalance, ClassOverload:
		return true
	default:
		return false
	}
}

// Fatal reports whether the service cannot go on and Run returns the error. Neither
// transient nor fatal are a cancellation, a record that is too large, which belongs in the
// dead-letter topic, and lost data, which the client has already skipped and which has to
// be counted.
func Fatal(err error) bool {
	switch ClassOf(err) {
	case ClassAuth, ClassTLS, ClassFenced, ClassOther:
		return true
	default:
		return false
	}
}

// ClassOf classifies an error of a Kafka client; nil has the class "".
func ClassOf(err error) Class {
	switch {
	case err == nil:
		return ""
	case isAny(err, context.Canceled, kgo.ErrClientClosed, kgo.ErrAborting):
		return ClassCancelled
	case isAny(err, kgo.ErrMaxBuffered):
		return ClassOverload
	case isAny(err, kgo.ErrRecordRetries):
		return ClassBroker
	}
	if ke, ok := errors.AsType[*kerr.Error](err); ok {
		return classOfKafka(ke)
	}
	if _, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
		return ClassDataLoss
	}
	if _, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
		return ClassTooLarge
	}
	return classOfConnection(err)
}

func classOfKafka(err *kerr.Error) Class {
	is := func(errs ...*kerr.Error) bool { return slices.Contains(errs, err) }
	switch {
	case is(kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState,
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed,
		kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
		kerr.SecurityDisabled):
		return ClassAuth
	case is(kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord):
		return ClassTooLarge
	case is(kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState,
		kerr.InvalidProducerIDMapping, kerr.UnknownProducerID, kerr.OutOfOrderSequenceNumber,
		kerr.TransactionCoordinatorFenced, kerr.FencedInstanceID):
		return ClassFenced
	case is(kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID,
		kerr.StaleMemberEpoch, kerr.FencedMemberEpoch, kerr.MemberIDRequired):
		return ClassRebalance
	case is(kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		return ClassTopic
	case is(kerr.RequestTimedOut):
		return ClassTimeout
	case is(kerr.TransactionAbortable, kerr.ConcurrentTransactions), err.Retriable:
		return ClassBroker
	}
	return ClassOther
}

func classOfConnection(err error) Class {
	// TLS first: its errors arrive inside a *net.OpError.
	var (
		alert    tls.AlertError
		header   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	for _, target := range []any{&alert, &header, &verify, &unknown, &hostname, &invalid} {
		if errors.As(err, target) {
			return ClassTLS
		}
	}
	// This is how crypto/tls marks what the other side complains about, such as a missing
	// client certificate; the type of the complaint itself is not exported.
	if oe, ok := errors.AsType[*net.OpError](err); ok && oe.Op == "remote error" {
		return ClassTLS
	}
	if isAny(err, context.DeadlineExceeded, os.ErrDeadlineExceeded, kgo.ErrRecordTimeout) {
		return ClassTimeout
	}
	if ne, ok := errors.AsType[net.Error](err); ok {
		if ne.Timeout() {
			return ClassTimeout
		}
		return ClassNetwork
	}
	if _, ok := errors.AsType[*kgo.ErrFirstReadEOF](err); ok {
		return ClassNetwork
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return ClassNetwork
	}
	if isAny(err, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed) {
		return ClassNetwork
	}
	return ClassOther
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}
