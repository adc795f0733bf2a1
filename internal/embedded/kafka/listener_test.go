package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
)

// readerConn is a connection that only reads.
type readerConn struct {
	net.Conn
	in io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// metadata is a request head of a kind that exists.
const metadata = "\x00\x03\x00\x00"

func frames(sizes ...uint32) []byte {
	var raw []byte
	for _, size := range sizes {
		raw = binary.BigEndian.AppendUint32(raw, size)
		raw = append(raw, metadata...)
		raw = append(raw, bytes.Repeat([]byte{0xff}, int(min(size, 1000))-len(metadata))...)
	}
	return raw
}

func TestGuardedConn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		raw     []byte
		refused bool
	}{
		{"small requests", frames(8, 9, 100, 1000, 8), false},
		{"large request", frames(10, 1001), true},
		{"garbage", []byte("\x16\x03\x01\x02\x00\x01\x00"), true},
		{"too short for a request", []byte("\x00\x00\x00\x04" + metadata), true},
		{"unknown kind", []byte("\x00\x00\x00\x08\x7f\xff\x00\x00\x00\x00\x00\x00"), true},
		{"unknown version", []byte("\x00\x00\x00\x08\x00\x03\x7f\xff\x00\x00\x00\x00"), true},
		{"versions asked in a newer version", []byte("\x00\x00\x00\x08\x00\x12\x7f\xff\x00\x00\x00\x00"), false},
		{"end within a request", frames(10)[:9], false},
	} {
		for name, slow := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader,
		} {
			t.Run(tc.name+"/"+name, func(t *testing.T) {
				conn := &guardedConn{Conn: readerConn{in: slow(bytes.NewReader(tc.raw))}, limit: 1000}
				got, err := io.ReadAll(conn)
				if tc.refused != (err != nil) {
					t.Errorf("got error %v", err)
				}
				if !tc.refused && !bytes.Equal(got, tc.raw) {
					t.Errorf("got %d bytes, want %d", len(got), len(tc.raw))
				}
			})
		}
	}
}

// TestGarbage sends a broker what is no request, as a port scanner does.
func TestGarbage(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t.TempDir()))
	for _, text := range []string{
		"\xff\xff\xff\xff", "\x00\x00\x00\x04\x7f\xff\x00\x00",
		"\x00\x00\x00\x08\x7f\xff\x00\x00\x00\x00\x00\x01", "GET / HTTP/1.1\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			// The broker may have closed the connection already.
			_ = tcp.CloseWrite()
		}
		if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, io.EOF) && !isReset(err) {
			t.Errorf("%q: %v", text, err)
		}
		_ = conn.Close()
	}
	if err := newClient(t, s.Addr()).Ping(testContext(t)); err != nil {
		t.Errorf("the broker is gone: %v", err)
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
