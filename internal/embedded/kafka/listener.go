package kafka

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// requestOverhead is what a request may hold besides one batch for each of many partitions.
const requestOverhead = 64 << 20

// guardedListen listens as net.Listen does, on connections that refuse a request that is larger
// than limit or of an unknown kind. The broker allocates what the first four bytes of a request
// announce, whoever sent them, and ends the process over a kind that it does not know.
func guardedListen(limit int64) func(network, address string) (net.Listener, error) {
	return func(network, address string) (net.Listener, error) {
		// The broker has no context to give; listening on the loopback does not wait.
		listener, err := net.Listen(network, address) //nolint:noctx // see above
		if err != nil {
			return nil, err
		}
		return &guardedListener{Listener: listener, limit: limit}, nil
	}
}

type guardedListener struct {
	net.Listener
	limit int64
}

// Accept implements net.Listener.
func (l *guardedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guardedConn{Conn: conn, limit: l.limit}, nil
}

// The head of a request: its length, which counts what follows, then kind, version and an id.
const (
	requestHead    = 8
	requestMinimum = 8
)

// guardedConn follows the framing of requests and reads the head of each.
type guardedConn struct {
	net.Conn
	limit int64
	head  [requestHead]byte
	have  int
	rest  int64
}

// Read implements net.Conn. It is called by one goroutine at a time.
func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for data := p[:n]; len(data) > 0; {
		if c.rest > 0 {
			skip := min(c.rest, int64(len(data)))
			c.rest -= skip
			data = data[skip:]
			continue
		}
		taken := copy(c.head[c.have:], data)
		c.have += taken
		data = data[taken:]
		if c.have >= 4 {
			// The length alone decides about the allocation that follows it.
			if err := c.checkLength(); err != nil {
				return 0, err
			}
		}
		if c.have < len(c.head) {
			continue
		}
		if err := c.checkKind(); err != nil {
			return 0, err
		}
		c.have, c.rest = 0, c.length()-(requestHead-4)
	}
	return n, err
}

func (c *guardedConn) length() int64 { return int64(binary.BigEndian.Uint32(c.head[:])) }

func (c *guardedConn) checkLength() error {
	if length := c.length(); length < requestMinimum || length > c.limit {
		return fmt.Errorf("request of %d bytes, which is not between %d and %d", length, requestMinimum, c.limit)
	}
	return nil
}

// checkKind refuses what no version of the protocol knows: the broker would not survive it.
func (c *guardedConn) checkKind() error {
	key := int16(binary.BigEndian.Uint16(c.head[4:]))
	version := int16(binary.BigEndian.Uint16(c.head[6:]))
	request := kmsg.RequestForKey(key)
	if request == nil {
		return fmt.Errorf("request of unknown kind %d", key)
	}
	// A client that is newer than the broker learns so by asking for versions.
	if version < 0 || (version > request.MaxVersion() && key != int16(kmsg.ApiVersions)) {
		return fmt.Errorf("request of kind %d in unknown version %d", key, version)
	}
	return nil
}
