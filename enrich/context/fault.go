package context

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

var (
	errNotObject = errors.New("not a JSON object")
	errNotPEM    = errors.New("not PEM in base64")
)

// fault collects the first thing that is wrong with an object; reading goes on.
type fault struct{ err error }

func (f *fault) bad(path, want string, got []byte) {
	if f.err == nil && string(got) != "null" {
		f.err = fmt.Errorf("%s: want %s, got %.40s", path, want, got)
	}
}

// members calls yield for each member of the object that value is. Keys count as written, like for the API server:
// encoding/json would take "Rules" for "rules".
func (f *fault) members(path string, value []byte, yield func(key string, value []byte)) {
	if value[0] != '{' {
		f.bad(path, "an object", value)
		return
	}
	it := jsonscan.Object(value)
	for it.Next() {
		key := string(it.Key())
		if it.Escaped() {
			key, _ = jsonscan.String(slices.Concat([]byte{'"'}, it.Key(), []byte{'"'}))
		}
		yield(key, it.Value())
	}
	if f.err == nil {
		f.err = it.Err()
	}
}

func (f *fault) elements(path string, value []byte, yield func(value []byte)) {
	if value[0] != '[' {
		f.bad(path, "an array", value)
		return
	}
	for it := jsonscan.Array(value); it.Next(); {
		yield(it.Value())
	}
}

func (f *fault) text(path string, value []byte) string {
	s, ok := jsonscan.String(value)
	if !ok {
		f.bad(path, "a string", value)
		return ""
	}
	return strings.Clone(s) // the event's bytes are not kept for it
}

func (f *fault) number(path string, value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		f.bad(path, "a whole number", value)
	}
	return n
}

func (f *fault) texts(path string, value []byte) (all []string) {
	f.elements(path, value, func(v []byte) { all = append(all, f.text(path, v)) })
	return all
}

func (f *fault) textMap(path string, value []byte) map[string]string {
	m := map[string]string{}
	f.members(path, value, func(k string, v []byte) { m[strings.Clone(k)] = f.text(path, v) })
	return m
}
