package directory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

// List is all that one source says of people, groups or ranges.
type List struct {
	// Name of the source: what the list does not have any more is removed, but only what came from the same source.
	Name string
	// Kinds that the list has in full.
	Kinds   []context.Kind
	Entries []Entry
	// Notes are for whoever imports the list: what was not used, what overlaps.
	Notes []string
}

// Entry is a person, a group or a range.
type Entry struct {
	Key    context.Key
	Object *context.Object
	Line   int // of the file; 0 if it is from none
}

// Fault is one thing that is wrong with a list.
type Fault struct {
	File    string
	Line    int    // 0 if it is not about one
	Field   string // the column or member; empty if it is about none
	Problem string
	Remedy  string // what to do about it
}

func (f *Fault) Error() string {
	text := f.File
	if f.Line > 0 {
		text += fmt.Sprintf(":%d", f.Line)
	}
	if f.Field != "" {
		text += ": " + f.Field
	}
	text += ": " + f.Problem
	if f.Remedy != "" {
		text += "; " + f.Remedy
	}
	return text
}

// Faults are all that is wrong with a list, each on a line of its own.
type Faults []Fault

func (f Faults) Error() string {
	const most = 20
	lines := make([]string, 0, most+1)
	for i := range f[:min(len(f), most)] {
		lines = append(lines, f[i].Error())
	}
	if n := len(f) - most; n > 0 {
		lines = append(lines, fmt.Sprintf("%s: %d more faults", f[0].File, n))
	}
	return strings.Join(lines, "\n")
}

// reader collects the entries, faults and notes of one text.
type reader struct {
	list   *List
	file   string
	faults Faults
	seen   map[context.Key]int // → line
}

func newReader(file, source string, kinds ...context.Kind) *reader {
	return &reader{list: &List{Name: source, Kinds: kinds}, file: file, seen: map[context.Key]int{}}
}

func (r *reader) fault(line int, field, problem, remedy string) {
	r.faults = append(r.faults, Fault{File: r.file, Line: line, Field: field, Problem: problem, Remedy: remedy})
}

func (r *reader) note(format string, args ...any) {
	r.list.Notes = append(r.list.Notes, r.file+": "+fmt.Sprintf(format, args...))
}

// add adds an entry; field names the part of it that must be unique.
func (r *reader) add(line int, field string, key context.Key, object *context.Object) {
	if first, twice := r.seen[key]; twice {
		r.fault(line, field, fmt.Sprintf("%s is on line %d already", quoted(key.Name), first), "leave one of them out")
		return
	}
	r.seen[key] = line
	r.list.Entries = append(r.list.Entries, Entry{Key: key, Object: object, Line: line})
}

// done returns the list, sorted, if it has no fault.
func (r *reader) done() (*List, error) {
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, func(a, b Fault) int { return a.Line - b.Line })
		return nil, r.faults
	}
	sortEntries(r.list.Entries)
	return r.list, nil
}

func sortEntries(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int { return compareKeys(a.Key, b.Key) })
}

func compareKeys(a, b context.Key) int {
	if a.Kind != b.Kind {
		return int(a.Kind) - int(b.Kind)
	}
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// quoted is a foreign text for a message.
func quoted(text string) string {
	const most = 80
	if len(text) > most {
		text = text[:most] + "…"
	}
	return fmt.Sprintf("%q", text)
}
