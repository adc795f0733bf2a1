package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/testdata/recording"
)

// listed is since when the people and networks of the recording are as the lists say: before its first event.
var listed = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// known is what the tests import, for a run without servers.
func known(t *testing.T) offline.Context {
	t.Helper()
	var known offline.Context
	if err := known.AddPeople("people.csv", bytes.NewReader(recording.People()), listed.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	if err := known.AddRanges("networks.txt", bytes.NewReader(recording.Networks()), listed.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	return known
}

// imports runs auditmill context import until it succeeds: whatever it talks to may be killed meanwhile.
func (f *fleet) imports(flag, name string, list []byte) error {
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, list, 0o600); err != nil {
		return err
	}
	var err error
	for range 20 {
		var out []byte
		if out, err = f.try(f.t.Context(), "context", "import", flag, path, "--at", listed.Format(time.RFC3339)); err == nil {
			return nil
		}
		err = fmt.Errorf("importing %s: %w\n%s", name, err, out)
	}
	return err
}

// expectRows waits until the rows of a cluster say of who and why, and of all else, what is worked out by a run without
// servers that knows everything before the first event.
func expectRows(t *testing.T, conn load.Conn, lines [][]byte, known offline.Context, cluster string) {
	t.Helper()
	want, err := offline.Rows(t.Context(), offline.Recorded(lines, known, cluster))
	if err != nil {
		t.Fatal(err)
	}
	table := offline.ClickHouse(conn, "auditmill", offline.Range{Where: "cluster = '" + cluster + "'", Lean: true})
	const patience = time.Minute
	last, moved := int64(-1), time.Now()
	for {
		have, err := offline.Rows(t.Context(), table)
		if err != nil {
			t.Fatal(err)
		}
		wrong := unlike(want, have)
		if len(wrong) == 0 {
			return
		}
		if n := ask(t, conn, "SELECT toInt64(count()) FROM auditmill.event_rows"); n != last {
			last, moved = n, time.Now()
		}
		if time.Since(moved) > patience {
			t.Errorf("%s: %d of %d rows are not as they should be, such as\n%s", cluster, len(wrong), len(want), strings.Join(wrong[:min(3, len(wrong))], "\n"))
			return
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
	}
}

// unlike says what is different, event by event.
func unlike(want, have map[string]string) (wrong []string) {
	for print, row := range want {
		if have[print] != row {
			wrong = append(wrong, fmt.Sprintf("%s is\n  %s\ninstead of\n  %s", print, have[print], row))
		}
	}
	for print, row := range have {
		if _, ok := want[print]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s is there, and should not be:\n  %s", print, row))
		}
	}
	return wrong
}
