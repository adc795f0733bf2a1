package offline

import (
	"slices"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// A case can set every column of who and why that an event does not say itself.
func TestCasesSetEveryColumn(t *testing.T) {
	at := schemas.Micros(caseStart)
	for _, c := range schemas.Columns() {
		if c.Path != "" || c.Group != schemas.GroupWho && c.Group != schemas.GroupWhy {
			continue
		}
		value, want := `"some"`, `"some"`
		switch c.Type {
		case schemas.TypeTime:
			value, want = `"-12m"`, `"2025-12-31T23:48:00.000000Z"`
		case schemas.TypeUint16, schemas.TypeInt64:
			value, want = "7", "7"
		case schemas.TypeDicts, schemas.TypeStrings:
			value, want = `["a",true]`, `["a","true"]`
		case schemas.TypeMap:
			value, want = `{"k":"v"}`, `{"k":"v"}`
		default:
		}
		columns, err := caseColumns(&ir.Case{Events: []ir.CaseEvent{{Columns: []byte(`{"` + c.Name + `":` + value + `}`)}}})
		if err != nil {
			t.Fatal(err)
		}
		e := schemas.Event{EventTime: at}
		if err := setColumns(&e, columns[0]); err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		b := schemas.NewBuilder()
		b.Append(&e)
		batch := b.Batch()
		if text := string(schemas.AppendRowJSON(nil, batch, 0)); !strings.Contains(text, `"`+c.Name+`":`+want) {
			t.Errorf("%s is not %s in %s", c.Name, want, text)
		}
		batch.Release()
	}
}

func TestCaseColumnsRefuse(t *testing.T) {
	for given, want := range map[string]string{
		`{"verb":"get"}`:           "verb: is no column of who and why",
		`{"nonsense":1}`:           "nonsense: is no column of who and why",
		`{"":1}`:                   "is no column of who and why",
		`{"dangerous":"x"}`:        "must be a list",
		`{"dangerous":[{}]}`:       "must be a text",
		`{"team":["a"]}`:           "must be a text",
		`{"namespace_labels":[1]}`: "must be a mapping",
		`{"breadth":70000}`:        "out of range",
		`{"breadth":1.5}`:          "no whole number",
		`{"grant_since":"soon"}`:   "a duration from the event on",
	} {
		columns, err := caseColumns(&ir.Case{Events: []ir.CaseEvent{{Columns: []byte(given)}}})
		if err == nil {
			err = setColumns(&schemas.Event{}, columns[0])
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", given, err, want)
		}
	}
}

func TestCaseColumnsFollowTheEvents(t *testing.T) {
	c := &ir.Case{Events: []ir.CaseEvent{{JSON: []byte("{}"), Columns: []byte(`{"team":"a"}`), Repeat: 2}, {JSON: []byte("{}")}}}
	columns, err := caseColumns(c)
	if err != nil {
		t.Fatal(err)
	}
	events, err := CaseEvents(c, "")
	if err != nil || len(events) != len(columns) || slices.IndexFunc(columns, func(o object) bool { return o == nil }) != 2 {
		t.Errorf("%d columns for %d events: %v, %v", len(columns), len(events), columns, err)
	}
}
