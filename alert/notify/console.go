package notify

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Console is a Sink that writes each message to a terminal as a person would see it in Slack.
type Console struct {
	mu sync.Mutex
	w  io.Writer
	// Color says whether to use ANSI colours: true for a terminal.
	color bool
}

// NewConsole returns a Sink that writes to w, which must not be written to elsewhere while
// Post runs.
func NewConsole(w io.Writer, color bool) *Console {
	return &Console{w: w, color: color}
}

// Name returns "console".
func (c *Console) Name() string { return "console" }

// Post writes m. It refuses nothing, so plain makes no difference.
func (c *Console) Post(_ context.Context, m *Message, _ bool) (Receipt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := io.WriteString(c.w, ConsoleText(m, c.color)); err != nil {
		return Receipt{}, &Error{Class: Transient, Reason: "write", Err: fmt.Errorf("writing to the terminal: %w", err)}
	}
	return Receipt{Channel: "console"}, nil
}

const (
	ansiReset = "\x1b[0m"
	ansiBold  = "\x1b[1m"
	ansiDim   = "\x1b[2m"
)

// ConsoleText renders m for a terminal.
func ConsoleText(m *Message, color bool) string {
	paint := func(style, s string) string {
		if !color {
			return s
		}
		return style + s + ansiReset
	}
	var b strings.Builder
	badge := fmt.Sprintf("%-8s", strings.ToUpper(shortSeverity(m.Severity)))
	fmt.Fprintf(&b, "%s %s  %s\n", paint(severityStyle(m.Severity), "▌"), paint(severityStyle(m.Severity), badge),
		paint(ansiBold, m.Title))
	row := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%s %s  %s\n", paint(severityStyle(m.Severity), "▌"), paint(ansiDim, fmt.Sprintf("%-8s", label)), text)
		}
	}
	from := ""
	if m.Source != "" {
		from = " from " + m.Source
	}
	row("", m.Summary)
	for _, w := range m.Warnings {
		row("warning", w)
	}
	if m.Count > 1 {
		row("seen", fmt.Sprintf("%d times since %s", m.Count, whenText(m.First)))
	}
	row("actor", m.Actor+from)
	row("who", m.Who)
	row("cluster", m.Cluster)
	row("what", m.What)
	row("command", m.Command)
	row("why", m.Why)
	row("rights", m.Rights)
	row("token", m.Credential)
	row("when", whenText(m.When))
	row("next", m.Next)
	b.WriteByte('\n')
	return b.String()
}

func shortSeverity(s string) string {
	if s == informational {
		return "info"
	}
	return s
}

func severityStyle(s string) string {
	return [...]string{"\x1b[1;97;41m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;34m", "\x1b[1;37m"}[rank(s)]
}
