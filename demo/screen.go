package demo

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// screen is a terminal with a line of status below what scrolls by. Without a terminal the
// status is a line among the others.
type screen struct {
	mu     sync.Mutex
	out    io.Writer
	tty    bool
	status string
}

// Write prints above the status.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tty || s.status == "" {
		return s.out.Write(p)
	}
	var b bytes.Buffer
	fmt.Fprint(&b, "\r\x1b[K")
	b.Write(p)
	if !bytes.HasSuffix(p, []byte("\n")) {
		b.WriteByte('\n')
	}
	b.WriteString(s.status)
	if _, err := s.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// show replaces the status; an empty one ends it.
func (s *screen) show(status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tty {
		if status != "" {
			fmt.Fprintln(s.out, status)
		}
		return
	}
	s.status = status
	fmt.Fprint(s.out, "\r\x1b[K", status)
}

func (s *screen) title(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.tty {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	fmt.Fprintf(s, "\n%s\n", text)
}

func (s *screen) say(format string, args ...any) {
	fmt.Fprintf(s, format+"\n", args...)
}
