package demo

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
	"github.com/auditmill/auditmill/internal/obs"
	"github.com/auditmill/auditmill/pipeline"
)

func TestMain(m *testing.M) {
	clickhouse.RunChildIfAsked()
	os.Exit(m.Run())
}

// buffer is a bytes.Buffer that several goroutines write to.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// The demo is the whole pipeline in one process: it fails unless every event is in
// ClickHouse exactly once and exactly the expected alerts were raised.
func TestDemo(t *testing.T) {
	cfg := pipeline.DefaultConfig()
	cfg.Embedded.DataDir = t.TempDir()
	cfg.Embedded.Kafka.Port, cfg.Embedded.ClickHouse.Port = 0, 0
	cfg.Ops.Listen = "127.0.0.1:0"
	var out, logs buffer
	err := Run(t.Context(), cfg, Options{Out: &out, Rate: 20_000, Exit: true, Logs: &logs})
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), logs.String())
	}
	for _, want := range []string{
		"cluster-admin bound", "Who read secrets?", "✓ all 11366 events sent are in ClickHouse exactly once", "alerts that the recording contains were raised",
		// The messages say who it was, through which grant, since when, and what else that grant would allow.
		"▌ who       Mallory Marsh, team contractors, manager alice@example.com\n",
		`▌ why       allowed through RoleBinding "dev-sandbox/contractors-edit" of ClusterRole "edit" to Group "contractors", made `,
		"▌ rights    can act as anybody (critical); ", " zone office\n",
		// And so does the table.
		"│ Mallory Marsh  │ contractors │ dev-sandbox/contractors-edit        │ kubernetes-admin │ 03:29:37 │",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo does not show %q", want)
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 120 && strings.ContainsRune(line, '│') {
			t.Errorf("the line of a table is %d columns wide: %s", n, line)
		}
	}
}

func TestScreenKeepsTheStatusBelow(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, tty: true}
	s.show("status")
	if _, err := io.WriteString(s, "line\n"); err != nil {
		t.Fatal(err)
	}
	s.show("")
	if want := "\r\x1b[Kstatus\r\x1b[Kline\nstatus\r\x1b[K"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestDifferNamesWhatIsWrong(t *testing.T) {
	if err := differ("events", map[string]int{"a": 1}, map[string]int{"a": 1}); err != nil {
		t.Error(err)
	}
	for name, have := range map[string]map[string]int{"missing": {}, "twice": {"a": 2}, "unexpected": {"a": 1, "b": 1}} {
		if err := differ("events", map[string]int{"a": 1}, have); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestStatus(t *testing.T) {
	got := status(map[string]obs.Counts{"enrich": {In: 10}}, map[string]obs.Counts{"enrich": {In: 30, Lag: 5}}, 2_000_000_000)
	if !strings.Contains(got, "enrich     10/s lag 5") {
		t.Errorf("got %q", got)
	}
}
