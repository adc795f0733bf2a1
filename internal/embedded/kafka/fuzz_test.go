package kafka

import (
	"bufio"
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

// FuzzGuardedConn compares what the guard says about a stream with how the stream is cut.
func FuzzGuardedConn(f *testing.F) {
	f.Add(frames(8, 100, 1001))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		read := func(in io.Reader) bool {
			_, err := io.Copy(io.Discard, &guardedConn{Conn: readerConn{in: in}, limit: 1000})
			return err == nil
		}
		if whole, bytewise := read(bytes.NewReader(raw)), read(iotest.OneByteReader(bytes.NewReader(raw))); whole != bytewise {
			t.Errorf("whole %v, byte by byte %v", whole, bytewise)
		}
	})
}

// FuzzSplitFrames reads damaged logs: what is valid must read the same again.
func FuzzSplitFrames(f *testing.F) {
	entry, err := appendFrame(nil, pidEntry{Type: "init", PID: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(entry, entry...))
	f.Add(append(entry, 0, 0, 0))
	f.Fuzz(func(t *testing.T, raw []byte) {
		frames, valid := splitFrames(raw)
		again, validAgain := splitFrames(raw[:valid])
		if len(again) != len(frames) || validAgain != valid {
			t.Errorf("%d entries in %d bytes, then %d in %d", len(frames), valid, len(again), validAgain)
		}
	})
}

// FuzzReadBatch reads damaged segments: every byte before the damage is part of a batch.
func FuzzReadBatch(f *testing.F) {
	batch := controlBatch(7, 0, 1, 0, true)
	raw := batch.AppendTo(nil)
	f.Add(append(raw, raw...))
	f.Add(append(raw, raw[:20]...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := bufio.NewReader(bytes.NewReader(raw))
		var (
			buf  []byte
			err  error
			read int
		)
		for err == nil {
			if buf, err = readBatch(in, buf, int64(len(raw)-read)); err == nil {
				if !bytes.Equal(raw[read:read+len(buf)], buf) {
					t.Fatalf("batch at %d is not what was stored", read)
				}
				read += len(buf)
			}
		}
	})
}
