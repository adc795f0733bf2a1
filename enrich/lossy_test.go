package enrich

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	clusters "github.com/auditmill/auditmill/enrich/context"
)

// lossyConn delivers every request and loses the answers to some: what the client asked
// for did happen, and it does not know.
type lossyConn struct {
	net.Conn
	lose  func(key int16) bool
	armed atomic.Bool
}

func (c *lossyConn) Write(p []byte) (int, error) {
	if len(p) >= 6 && c.lose(int16(binary.BigEndian.Uint16(p[4:6]))) {
		c.armed.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.armed.Load() {
		return 0, errors.Join(syscall.ECONNRESET, c.Close())
	}
	return n, err
}

// Each step of a transaction happens and its answer is lost.
func TestLostAnswers(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.InitProducerID} {
		t.Run(kmsg.NameForKey(key.Int16()), func(t *testing.T) {
			b := newBed(t)
			b.produce(b.events(300)...)
			lost, stop := b.lossy(key)
			b.expectOnce()
			stop()
			if lost() == 0 {
				t.Error("no answer was lost")
			}
		})
	}
}

// Corrections are in transactions too: whatever is lost, each row that is wrong is corrected, and none comes twice as a first one.
func TestLostAnswersToCorrections(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn} {
		t.Run(kmsg.NameForKey(key.Int16()), func(t *testing.T) {
			b := newBed(t)
			b.tell("prod", known(t, moment.Add(-time.Hour), podsRole)...)
			_, stop := b.lossy(key)
			defer stop()
			const events = 200
			var binding []clusters.Change
			for i := range events {
				b.produce(reading(t, "prod", strconv.Itoa(i), moment.Add(time.Duration(i)*time.Second)))
				if i%50 == 49 { // too late by half a minute
					binding = known(t, moment.Add(time.Duration(i-30)*time.Second), strings.ReplaceAll(podsBinding, `"b"`, `"b`+strconv.Itoa(i)+`"`))
					b.finals(func(all map[string]*final) bool { return len(all) > i-10 })
					b.tell("prod", append(binding, clusters.Change{
						Key: clusters.Key{Kind: clusters.ClusterRoleBinding, Name: "pods"}, From: moment.Add(time.Duration(i-5) * time.Second).UnixMicro(),
						UID: "b" + strconv.Itoa(i), Source: clusters.SourceWatch,
					})...)
				}
			}
			b.finals(func(all map[string]*final) bool {
				right := 0
				for _, f := range all {
					at, err := time.Parse(time.RFC3339Nano, f.text["event_time"].(string))
					if err != nil {
						t.Fatal(err)
					}
					second := int(at.Sub(moment) / time.Second)
					// By a state of up to a second later the API server may have decided.
					allowed := second%50 >= 49-30-1 && second%50 <= 49-5
					if f.rows != 1 {
						t.Errorf("event %d: %d rows", second, f.rows)
					}
					if (f.text["grant_agreement"] == "agree") == allowed {
						right++
					}
				}
				return right == events
			})
		})
	}
}

// lossy runs an instance, again and again, to which every third answer to key is lost, at first.
func (b *bed) lossy(key kmsg.Key) (lost func() int64, stop func()) {
	var n atomic.Int64
	var dialer net.Dialer
	cfg := b.config("a")
	cfg.MaxPollRecords, cfg.CorrectInterval = 20, 0
	config := b.kafka
	config.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &lossyConn{Conn: conn, lose: func(k int16) bool { return k == key.Int16() && n.Add(1)%3 == 1 && n.Load() < 15 }}, nil
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil { // an instance that gives up is started again
			stop := b.startWith(cfg, config)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
			if err := stop(); err != nil {
				b.t.Log("instance ended:", err)
			}
		}
	}()
	return n.Load, func() { cancel(); <-done }
}

// A transaction that holds nothing but corrections is aborted, and no record comes that would bring its partition back.
func TestCorrectionIsRepeated(t *testing.T) {
	b := newBed(t)
	b.tell("prod", known(t, moment.Add(-time.Hour), podsRole)...)
	cfg := b.config("a")
	cfg.CorrectInterval = 0
	stop := b.start(cfg)
	const events = 40
	for i := range events {
		b.produce(reading(t, "prod", strconv.Itoa(i), moment.Add(time.Duration(i)*time.Second)))
	}
	b.finals(func(all map[string]*final) bool { return len(all) == events })
	var refused atomic.Int64
	b.broker.ControlKey(kmsg.Produce.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.broker.KeepControl()
		request, ok := r.(*kmsg.ProduceRequest)
		if !ok || request.TransactionID == nil || refused.Load() == 2 {
			return nil, nil, false
		}
		refused.Add(1)
		return refuse(request), nil, true
	})
	b.tell("prod", known(t, moment.Add(-time.Minute), podsBinding)...)
	b.finals(agree(events))
	if err := stop(); err != nil {
		t.Error(err)
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused")
	}
}

// An instance is killed in the middle of a transaction of corrections, and one with the same name takes over.
func TestKilledWhileCorrecting(t *testing.T) {
	for name, at := range map[string]struct {
		key     kmsg.Key
		happens bool
	}{
		"before they are written":      {kmsg.Produce, false},
		"when they are written":        {kmsg.Produce, true},
		"before the transaction's end": {kmsg.EndTxn, false},
		"after the transaction's end":  {kmsg.EndTxn, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.tell("prod", known(t, moment.Add(-time.Hour), podsRole)...)
			cfg := b.config("a")
			cfg.CorrectInterval, cfg.TransactionTimeout = 0, time.Second
			var dead atomic.Bool
			config := b.kafka
			config.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
				if dead.Load() {
					return nil, syscall.ECONNREFUSED
				}
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return &mortalConn{conn, &dead}, err
			}
			bury := b.startWith(cfg, config)
			const events = 40
			for i := range events {
				b.produce(reading(t, "prod", strconv.Itoa(i), moment.Add(time.Duration(i)*time.Second)))
			}
			b.finals(func(all map[string]*final) bool { return len(all) == events })

			killed := make(chan struct{})
			b.broker.ControlKey(at.key.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
				b.broker.KeepControl()
				if produce, ok := r.(*kmsg.ProduceRequest); ok && produce.TransactionID == nil || dead.Swap(true) {
					return nil, nil, false
				}
				close(killed)
				return nil, syscall.ECONNRESET, !at.happens
			})
			b.tell("prod", known(t, moment.Add(-time.Minute), podsBinding)...)
			<-killed
			go bury() //nolint:errcheck // whatever it says
			b.expel()
			stop := b.start(cfg)
			for id, f := range b.finals(agree(events)) {
				if f.rows != 1 {
					t.Errorf("event %s: %d first rows", id, f.rows)
				}
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// mortalConn is a connection of a process that may be dead.
type mortalConn struct {
	net.Conn
	dead *atomic.Bool
}

func (c *mortalConn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return 0, errors.Join(syscall.EPIPE, c.Close())
	}
	return c.Conn.Write(p)
}

func (c *mortalConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.dead.Load() {
		return 0, errors.Join(syscall.ECONNRESET, c.Close())
	}
	return n, err
}

// expel makes all members leave the group, as if their sessions had expired.
func (b *bed) expel() {
	b.t.Helper()
	name := DefaultConfig().Group
	groups, err := kadm.NewClient(b.client).DescribeGroups(b.t.Context(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group = name
	for _, m := range groups[name].Members {
		member := kmsg.NewLeaveGroupRequestMember()
		member.MemberID = m.MemberID
		request.Members = append(request.Members, member)
	}
	if _, err := request.RequestWith(b.t.Context(), b.client); err != nil {
		b.t.Fatal(err)
	}
}

// refuse answers that the broker takes none of the records.
func refuse(request *kmsg.ProduceRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range request.Topics {
		answer := kmsg.ProduceResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID}
		for _, partition := range topic.Partitions {
			answer.Partitions = append(answer.Partitions, kmsg.ProduceResponseTopicPartition{
				Partition: partition.Partition, ErrorCode: kerr.MessageTooLarge.Code, BaseOffset: -1,
			})
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}
