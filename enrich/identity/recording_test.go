package identity_test

import (
	"bufio"
	"compress/gzip"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/schemas"
	"github.com/auditmill/auditmill/testdata/recording"
)

const recordings = "../../../shared/data/kube"

// sample is the shipped recording, classified, with what its events themselves say of the cluster.
func sample(tb testing.TB) ([]*schemas.Event, *context.Store) {
	tb.Helper()
	lines, err := recording.Lines()
	if err != nil {
		tb.Fatal(err)
	}
	s := context.NewStore(context.DefaultConfig())
	events := make([]*schemas.Event, len(lines))
	for i, line := range lines {
		// Each of its own: an event is valid until the next one of the same Offline.
		if events[i], err = enrich.NewOffline().Event("prod", line, &schemas.FingerprintFields{}, ""); err != nil {
			tb.Fatal(err)
		}
		// What cannot be followed is the context's affair.
		_, _, _ = s.Event("prod", events[i])
	}
	return events, s
}

// addPeople gives the recorded people tables.
func addPeople(s *context.Store) {
	all := objects{
		{Kind: context.Group, Name: "sre"}: {Group: &context.GroupInfo{Name: "Site reliability"}},
		zoneKey("127.0.10.0/24"):           {Range: &context.RangeInfo{CIDR: "127.0.10.0/24", Zone: "office"}},
	}
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin", "frank", "olivia", "peter"} {
		id := name + "@example.com"
		all[personKey(id)] = person(context.PersonInfo{Name: name, Email: id, Team: "team of " + name, Active: "true", Groups: []string{"employees"}})
	}
	all[personKey("grace@example.com")] = person(context.PersonInfo{Name: "grace", Usernames: []string{"cluster/prod/grace"}})
	add(s, context.Organization, 0, all)
}

// Whatever came before, an event is joined in the same way.
func TestAnyOrder(t *testing.T) {
	events, s := sample(t)
	addPeople(s)
	want := make([]map[string]any, len(events))
	j := identity.NewJoiner(s, nil)
	for i, e := range events {
		want[i] = joinAgain(j, e)
	}
	for seed := range uint64(3) {
		j := identity.NewJoiner(s, nil)
		for _, i := range rand.New(rand.NewPCG(seed, 1)).Perm(len(events)) {
			if diff := cmp.Diff(want[i], joinAgain(j, events[i])); diff != "" {
				t.Fatalf("seed %d, event %d: (-in order +shuffled)\n%s", seed, i, diff)
			}
		}
	}
}

func joinAgain(j *identity.Joiner, e *schemas.Event) map[string]any {
	again := *e
	new(identity.Classifier).Classify(&again)
	j.Join(&again)
	columns := who(&again)
	columns["session"] = again.Session
	return columns
}

// The recorded clusters, with their dumps: what is known of callers agrees with what their tokens claim.
func TestRecording(t *testing.T) {
	path := filepath.Join(recordings, "recording.jsonl.gz")
	s := context.NewStore(context.DefaultConfig())
	dump, err := context.ReadDump(filepath.Join(recordings, "context-before"))
	if os.IsNotExist(err) {
		t.Skipf("no recording: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Import("prod", dump, 0)
	addPeople(s)
	each(t, path, func(_ int, e *schemas.Event) { _, _, _ = s.Event("prod", e) })
	j, counts := identity.NewJoiner(s, nil), map[string]int{}
	each(t, path, func(line int, e *schemas.Event) {
		claimed := e.Node
		j.Join(e)
		if e.Pod != "" {
			counts["pod"]++
			if e.Workload == "" {
				counts["pod without workload"]++
			}
			if item := s.Cluster("prod").Find(podKey(split(e.Pod)), e.EventTime); item != nil && item.Object != nil && e.Workload != "" &&
				item.Object.Pod != nil && item.Object.Pod.Node != "" && item.Object.Pod.Node != claimed {
				t.Errorf("line %d: the token of %s claims node %s, the pod is on %s", line, e.Pod, claimed, item.Object.Pod.Node)
			}
		}
		if e.OffNode == schemas.True {
			t.Errorf("line %d: the credential of %s was used off its node, from %s", line, e.User, e.SourceIP)
		}
		if e.ActorKind == identity.Node {
			counts["node, off_node "+e.OffNode]++ // unknown until the node has said its address
		}
		if e.MintedBy != "" {
			counts["minted by "+e.MintedBy]++
			if e.MintedAt > e.StageTime {
				t.Errorf("line %d: %s was minted after it was used", line, e.CredentialID)
			}
		}
		if e.Session == "" && e.User != "" {
			t.Errorf("line %d: no session of %s", line, e.User)
		}
		if strings.HasSuffix(e.User, "@example.com") && e.DisplayName != "" {
			counts["people"]++
		}
		counts["zone "+e.SourceZone]++
	})
	for k, n := range counts {
		t.Log(n, k)
	}
	if counts["pod"] == 0 || counts["pod without workload"] > counts["pod"]/10 {
		t.Errorf("the workload of %d of %d is unknown", counts["pod without workload"], counts["pod"])
	}
	if counts["people"] == 0 || counts["zone node"] == 0 || counts["zone office"] == 0 {
		t.Error("nobody is known")
	}
	if counts["node, off_node false"] < 10*counts["node, off_node "] {
		t.Error("nodes are not where they are")
	}
}

func split(pod string) (namespace, name string) {
	namespace, name, _ = strings.Cut(pod, "/")
	return namespace, name
}

// each calls yield for the events of a recording.
func each(t *testing.T, path string, yield func(line int, e *schemas.Event)) {
	t.Helper()
	f, err := os.Open(path)
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
		e, err := offline.Event("prod", lines.Bytes(), &schemas.FingerprintFields{}, "")
		if err != nil {
			t.Fatalf("line %d: %v", line, err)
		}
		yield(line, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
