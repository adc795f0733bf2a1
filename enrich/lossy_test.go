package enrich

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
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
			var n atomic.Int64
			var dialer net.Dialer
			b.kafka.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dialer.DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &lossyConn{Conn: conn, lose: func(k int16) bool { return k == key.Int16() && n.Add(1)%3 == 1 && n.Load() < 15 }}, nil
			}
			cfg := b.config("a")
			cfg.MaxPollRecords = 20
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ctx.Err() == nil { // an instance that gives up is started again
					stop := b.start(cfg)
					select {
					case <-ctx.Done():
					case <-time.After(5 * time.Second):
					}
					if err := stop(); err != nil {
						t.Log("instance ended:", err)
					}
				}
			}()
			b.expectOnce()
			cancel()
			<-done
			if n.Load() == 0 {
				t.Error("no answer was lost")
			}
		})
	}
}
