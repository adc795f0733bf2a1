package context_test

import (
	"bufio"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

const recordings = "../../../shared/data/kube"

// recorded calls yield for the events of a recording.
func recorded(t testing.TB, file string, yield func(line int, e *schemas.Event)) {
	t.Helper()
	f, err := os.Open(filepath.Join(recordings, file))
	if err != nil {
		t.Skipf("no recording: %v", err)
	}
	defer f.Close()
	text, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 16<<20)
	offline := enrich.NewOffline()
	for line := 1; lines.Scan(); line++ {
		e, err := offline.Event(cluster, lines.Bytes(), &schemas.FingerprintFields{}, "")
		if err != nil {
			t.Fatalf("line %d: %v", line, err)
		}
		yield(line, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

func recordedDump(t testing.TB, s *context.Store, dir string, from int64) {
	t.Helper()
	dump, err := context.ReadDump(filepath.Join(recordings, dir))
	if os.IsNotExist(err) {
		t.Skipf("no recording: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Import(cluster, dump, from)
}

// At the end of the recording what was followed is what is there.
func TestFollowed(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	recordedDump(t, s, "context-before", 0)
	recorded(t, "recording.jsonl.gz", func(line int, e *schemas.Event) {
		if _, _, err := s.Event(cluster, e); err != nil {
			t.Errorf("line %d: %v", line, err)
		}
	})
	after := context.NewStore(context.DefaultConfig())
	recordedDump(t, after, "context-after", 0)
	for kind := context.Role; kind <= context.Node; kind++ {
		want, got := map[string]*context.Object{}, map[string]*context.Object{}
		for item := range after.Cluster(cluster).Objects(kind, math.MaxInt64) {
			want[item.Key.String()] = item.Object
		}
		if !after.Cluster(cluster).Complete(kind, math.MaxInt64) {
			continue // the dump does not have the kind
		}
		for item := range s.Cluster(cluster).Objects(kind, math.MaxInt64) {
			got[item.Key.String()] = item.Object
		}
		t.Logf("%s: %d", kind, len(want))
		// Most changes of pods and nodes are to nothing that is kept.
		ignored := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".ResourceVersion" }, cmp.Ignore())
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(context.Object{}), ignored, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-dump +followed):\n%s", kind, diff)
		}
	}
}
