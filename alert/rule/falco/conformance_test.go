package falco_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule/falco"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// shared returns a file of the data that is shared between checkouts.
func shared(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../../../shared/data/falco", name))
	if err != nil {
		t.Skip("no shared data: ", err)
	}
	return data
}

func sharedRules(t testing.TB, names ...string) []ir.File {
	t.Helper()
	var files []ir.File
	for _, name := range names {
		files = append(files, ir.File{Name: name, Data: shared(t, name)})
	}
	return files
}

// The sample was taken from Falco, bugs included: it is what Compatible promises.
func TestSemanticsSample(t *testing.T) {
	var differ []string
	for line := range bytes.Lines(shared(t, "semantics_sample.jsonl")) {
		var c struct {
			ID, Condition, Why string
			Event              json.RawMessage
			Expect             any
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		if c.Expect == "compile_error" {
			if got := faults(t, one(c.Condition)); len(got) == 0 {
				t.Errorf("%s: no fault", c.ID)
			}
			continue
		}
		got := holds(t, c.Condition, string(c.Event), falco.Options{Compatible: true})
		if got != c.Expect {
			t.Errorf("%s (%s): %v, want %v", c.ID, c.Why, got, c.Expect)
		}
		if holds(t, c.Condition, string(c.Event), falco.Options{}) != got {
			differ = append(differ, c.ID)
		}
	}
	if d := cmp.Diff([]string{"sourceips-bug"}, differ); d != "" {
		t.Errorf("cases that differ without Compatible (-want +got):\n%s", d)
	}
}

// events are the events of a trace; Falco drops lines that are none.
func events(trace []byte) []string {
	var lines []string
	scanner := bufio.NewScanner(bytes.NewReader(trace))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if json.Valid(scanner.Bytes()) {
			lines = append(lines, scanner.Text())
		}
	}
	return lines
}

func TestTraces(t *testing.T) {
	for i, line := range strings.Split(strings.TrimSpace(string(shared(t, "expected_sample.tsv"))), "\n")[1:] {
		fields := strings.Split(line, "\t")
		trace, rules, assertion, want := fields[0], strings.Split(fields[1], ","), fields[2], fields[3]
		e := parse(t, sharedRules(t, rules...), falco.Options{})
		all, first := map[string]int{}, map[string]int{}
		for _, event := range events(shared(t, trace)) {
			names, _ := e.matches(t, event)
			for k, name := range names {
				all[name]++
				if k == 0 {
					first[name]++
				}
			}
		}
		if assertion == "none" {
			if len(all) > 0 {
				t.Errorf("row %d, %s: %v, want none", i+1, trace, all)
			}
			continue
		}
		count, err := strconv.Atoi(fields[4])
		if err != nil {
			t.Fatal(err)
		}
		if all[want] != count {
			t.Errorf("row %d, %s: %v, want %d of %s", i+1, trace, all, count, want)
		}
		if len(first) == 0 {
			t.Errorf("row %d, %s: no first match", i+1, trace)
		}
		t.Logf("%s: all %v, first %v", trace, all, first)
	}
}

func TestPublishedFile(t *testing.T) {
	pack, err := falco.Parse(sharedRules(t, "rules/k8s_audit_rules.yaml"), falco.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pack.Rules) != 48 || len(pack.Notes) > 0 {
		t.Errorf("%d rules, notes %v; want 48 and none", len(pack.Rules), pack.Notes)
	}
	var off []string
	for _, r := range pack.Rules {
		if r.Blind != "" {
			off = append(off, r.ID)
		}
		if r.ID != r.Title || r.Level == "" || r.Priority == "" || r.Description == "" || len(r.Summary.Parts) == 0 || len(r.Tags) == 0 {
			t.Errorf("%+v", r.Meta)
		}
	}
	want := []string{
		"Create Disallowed Pod", "All K8s Audit Events", "Full K8s Administrative Access",
		"Untrusted Node Successfully Joined the Cluster", "Untrusted Node Unsuccessfully Tried to Join the Cluster",
	}
	if d := cmp.Diff(want, off); d != "" {
		t.Errorf("rules that are off by default (-want +got):\n%s", d)
	}
}

// Every field of the reference is known, as list or as text, with the argument it takes.
func TestFieldsOfReference(t *testing.T) {
	n := 0
	for line := range strings.Lines(string(shared(t, "fields.tsv"))) {
		columns := strings.Split(strings.TrimSpace(line), "\t")
		name, isList, arg := columns[0], strings.HasSuffix(columns[1], "list"), columns[2]
		if name == "field" {
			continue
		}
		n++
		full := name
		if strings.HasPrefix(arg, "[key]") {
			full += "[k]"
			if got := faults(t, one(name+" exists")); len(got) != 1 {
				t.Errorf("%s without an argument: %v", name, got)
			}
		}
		if got := faults(t, one(full+" exists")); got != nil {
			t.Errorf("%s: %v", full, got)
		}
		if got := faults(t, one(full+" = a")); isList != (len(got) == 1) {
			t.Errorf("%s = a: %v, list is %v", full, got, isList)
		}
		if got := faults(t, one(name+"[0] exists")); (arg == "-") != (len(got) == 1) {
			t.Errorf("%s[0]: %v, argument %s", name, got, arg)
		}
		if got := faults(t, one(name+"[01] exists")); strings.HasPrefix(arg, "[key]") != (len(got) == 0) {
			t.Errorf("%s[01]: %v, argument %s", name, got, arg)
		}
	}
	if n != 100 {
		t.Errorf("%d fields, want 100", n)
	}
}

// A file of syscall rules takes nothing and disturbs nothing.
func TestForeignFile(t *testing.T) {
	pack, err := falco.Parse(sharedRules(t, "rules/falco_rules-1.0.1.yaml"), falco.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pack.Rules) != 0 || !slices.ContainsFunc(pack.Notes, func(n ir.Note) bool {
		return strings.Contains(n.Text, "80 rules of source syscall passed over")
	}) {
		t.Errorf("%d rules, notes %v", len(pack.Rules), pack.Notes)
	}
}
