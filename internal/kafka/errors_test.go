package kafka

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestClassOf(t *testing.T) {
	tests := []struct {
		err              error
		want             Class
		transient, fatal bool
	}{
		{nil, "", false, false},
		{context.Canceled, ClassCancelled, false, false},
		{kgo.ErrClientClosed, ClassCancelled, false, false},
		{context.DeadlineExceeded, ClassTimeout, true, false},
		{kgo.ErrRecordTimeout, ClassTimeout, true, false},
		{kgo.ErrMaxBuffered, ClassOverload, true, false},
		{kgo.ErrRecordRetries, ClassBroker, true, false},
		{io.EOF, ClassNetwork, true, false},
		{&kgo.ErrFirstReadEOF{}, ClassNetwork, true, false},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, ClassNetwork, true, false},
		{&net.DNSError{IsNotFound: true}, ClassNetwork, true, false},
		{&net.DNSError{IsTimeout: true}, ClassTimeout, true, false},
		{&net.OpError{Op: "dial", Err: x509.UnknownAuthorityError{}}, ClassTLS, false, true},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, ClassTLS, false, true},
		{kerr.NotLeaderForPartition, ClassBroker, true, false},
		{kerr.NotEnoughReplicas, ClassBroker, true, false},
		{kerr.CoordinatorNotAvailable, ClassBroker, true, false},
		{kerr.ConcurrentTransactions, ClassBroker, true, false},
		{kerr.RequestTimedOut, ClassTimeout, true, false},
		{kerr.UnknownTopicOrPartition, ClassTopic, true, false},
		{kerr.RebalanceInProgress, ClassRebalance, true, false},
		{kerr.IllegalGeneration, ClassRebalance, true, false},
		{kerr.MessageTooLarge, ClassTooLarge, false, false},
		{&kgo.ErrDataLoss{Topic: "t"}, ClassDataLoss, false, false},
		{kerr.SaslAuthenticationFailed, ClassAuth, false, true},
		{kerr.TopicAuthorizationFailed, ClassAuth, false, true},
		{kerr.ProducerFenced, ClassFenced, false, true},
		{kerr.InvalidProducerEpoch, ClassFenced, false, true},
		{kerr.UnsupportedVersion, ClassOther, false, true},
		{errors.New("something else"), ClassOther, false, true},
		{&kgo.ErrGroupSession{Err: kerr.GroupAuthorizationFailed}, ClassAuth, false, true},
	}
	for _, tt := range tests {
		wrapped := tt.err
		if wrapped != nil {
			wrapped = fmt.Errorf("wrapping: %w", tt.err)
		}
		if got := ClassOf(wrapped); got != tt.want {
			t.Errorf("%v: got class %q, want %q", tt.err, got, tt.want)
		}
		if got := Transient(wrapped); got != tt.transient {
			t.Errorf("%v: got transient %v, want %v", tt.err, got, tt.transient)
		}
		if got := Fatal(wrapped); got != tt.fatal {
			t.Errorf("%v: got fatal %v, want %v", tt.err, got, tt.fatal)
		}
	}
}

// TestEveryKafkaErrorHasAClass guards the map of counters: a class outside Classes would
// have no counter.
func TestEveryKafkaErrorHasAClass(t *testing.T) {
	for code := int16(-1); code < 200; code++ {
		err := kerr.ErrorForCode(code)
		if err == nil {
			continue
		}
		if class := ClassOf(err); !slices.Contains(Classes(), class) {
			t.Errorf("%v: class %q is not in Classes", err, class)
		}
		if Transient(err) && Fatal(err) {
			t.Errorf("%v is both transient and fatal", err)
		}
	}
}
