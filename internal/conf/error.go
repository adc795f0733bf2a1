package conf

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Error holds every fault of a configuration.
type Error struct {
	Faults []Fault
}

// Error writes one fault per line.
func (e *Error) Error() string {
	if len(e.Faults) == 1 {
		return "invalid configuration: " + e.Faults[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "invalid configuration, %d faults:", len(e.Faults))
	for _, f := range e.Faults {
		b.WriteString("\n  ")
		b.WriteString(f.Error())
	}
	return b.String()
}

// Unwrap gives the errors of all faults.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Faults))
	for i, f := range e.Faults {
		errs[i] = f.Err
	}
	return errs
}

// Fault is one thing that is wrong.
type Fault struct {
	// Key is the full key, or empty.
	Key string
	// Where names the source of the value: file:line:column, the variable, or the
	// setting. It is empty when the fault lies in the default or in a combination.
	Where string
	// Err says what is wrong and what would be right.
	Err error
}

// Error writes the place, the key and what is wrong.
func (f Fault) Error() string {
	var parts []string
	for _, p := range []string{f.Where, f.Key} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(append(parts, f.Err.Error()), ": ")
}

// reader collects values, their places and the faults.
type reader struct {
	root    *field
	origins map[string]string // by key, with indices
	faulty  map[string]bool   // keys that have a fault already
	faults  []Fault
}

func (r *reader) fault(key, where string, err error) {
	r.faulty[key] = true
	r.faults = append(r.faults, Fault{Key: key, Where: where, Err: err})
}

type validator interface{ Validate() error }

// validate asks each struct that can validate itself, from the outside in.
func (r *reader) validate(root reflect.Value, only []string) {
	if v, ok := reflect.TypeAssert[validator](root); ok && len(only) == 0 {
		r.addInvalid("", v.Validate())
		return
	}
	for _, name := range only {
		if f, _ := r.root.child(name); f == nil {
			r.fault(name, "", errors.New("is no section"))
		}
	}
	for _, f := range r.root.fields {
		if len(only) == 0 || slices.Contains(only, f.name) {
			r.validateSection(root.Field(f.index), f)
		}
	}
}

func (r *reader) validateSection(val reflect.Value, f *field) {
	if v, ok := reflect.TypeAssert[validator](val); ok {
		r.addInvalid(f.key, v.Validate())
		return
	}
	if f.kind == section {
		for _, sub := range f.fields {
			r.validateSection(val.Field(sub.index), sub)
		}
	}
}

// leadingKey matches the key with which an error of Validate begins.
var leadingKey = regexp.MustCompile(`^([a-z0-9_]+(?:\[[0-9]+\])?(?:\.[a-z0-9_]+(?:\[[0-9]+\])?)*): `)

// addInvalid adds what a section's Validate returned. The section names its keys relative
// to itself; here they become full keys. A key that has a fault already is not blamed
// again, because its value is only the default.
func (r *reader) addInvalid(prefix string, err error) {
	for _, e := range split(err) {
		key, fault := prefix, e
		if m := leadingKey.FindStringSubmatch(e.Error()); m != nil {
			for _, full := range []string{join(prefix, m[1]), m[1]} {
				if f, _ := r.root.find(full); f != nil {
					key = full
					fault = trimmed{error: e, n: len(m[0])}
					break
				}
			}
		}
		if !r.faulty[key] || key == prefix {
			r.faults = append(r.faults, Fault{Key: key, Where: r.origins[key], Err: fault})
		}
	}
}

// trimmed is an error without the first n bytes of its text.
type trimmed struct {
	error
	n int
}

func (t trimmed) Error() string { return t.error.Error()[t.n:] }
func (t trimmed) Unwrap() error { return t.error }

// Join joins the errors of a nested Validate under a key: each of them is prefixed with
// the key and a dot. It is nil when err is.
func Join(key string, err error) error {
	var out []error
	for _, e := range split(err) {
		out = append(out, fmt.Errorf("%s.%w", key, e))
	}
	return errors.Join(out...)
}

// split takes errors.Join apart, and nothing else: an error that says more than its parts
// stays whole.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || errors.Join(joined.Unwrap()...).Error() != err.Error() {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, split(e)...)
	}
	return out
}

// suggest ends a message about an unknown name with the known one that is nearest.
func suggest(name string, known []string) string {
	best, bestDistance := "", max(2, len(name)/3)+1
	for _, k := range known {
		if d := distance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// distance is the number of letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
