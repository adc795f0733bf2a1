package rule

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/auditmill/auditmill/schemas"
)

// alias returns b as a string that is valid as long as b is.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// columnState is a column of the current batch. An older writer may not have had it: then
// array is nil and every row counts as null.
type columnState struct {
	plan  *columnPlan
	array arrow.Array
	dict  *dictState // of dictionary columns

	// of the kinds that are read row by row
	texts   texts
	lists   listLike
	keys    codes
	items   listLike // of a map of lists
	scratch []byte

	// of texts that have a finder: the rows looked at in batch, and those of them that are null
	batch          uint64
	scanned, nulls bitmap
	found          finding
}

// listLike is an array of lists, a map among them.
type listLike interface {
	ValueOffsets(i int) (start, end int64)
}

// texts are the values of an array of strings, bytes or ids.
type texts struct {
	strings *array.String
	binary  *array.Binary
	ids     *array.FixedSizeBinary
}

func textsOf(a arrow.Array) (t texts, ok bool) {
	switch a := a.(type) {
	case *array.String:
		t.strings = a
	case *array.Binary:
		t.binary = a
	case *array.FixedSizeBinary:
		t.ids = a
	default:
		return t, false
	}
	return t, true
}

// at returns value i. buf is scratch memory.
func (t *texts) at(i int, buf *[]byte) string {
	switch {
	case t.strings != nil:
		return t.strings.Value(i)
	case t.binary != nil:
		return alias(t.binary.Value(i))
	}
	*buf = hex.AppendEncode((*buf)[:0], t.ids.Value(i))
	return alias(*buf)
}

// codes are dictionary-encoded strings.
type codes struct {
	array  *array.Dictionary
	values *array.String
	int32s []int32 // of array if its indexes are such, else nil
}

func codesOf(a arrow.Array) (codes, bool) {
	dict, ok := a.(*array.Dictionary)
	if !ok {
		return codes{}, false
	}
	values, ok := dict.Dictionary().(*array.String)
	if !ok {
		return codes{}, false
	}
	c := codes{array: dict, values: values}
	if indices, ok := dict.Indices().(*array.Int32); ok {
		c.int32s = indices.Int32Values()
	}
	return c, true
}

func (c *codes) at(i int) int {
	if c.int32s != nil {
		return int(c.int32s[i])
	}
	return c.array.GetValueIndex(i)
}

// bind makes s a column of batch.
func (s *columnState) bind(batch arrow.RecordBatch) error {
	s.array = schemas.ColumnArray(batch, s.plan.name)
	if s.array == nil {
		if s.dict != nil {
			return s.dict.bindNull(int(batch.NumRows()))
		}
		return nil
	}
	ok := false
	switch s.plan.kind {
	case accessDict:
		ok = s.dict.bindScalar(s.array)
	case accessDicts:
		if ok = s.dict.bindList(s.array); ok {
			s.lists = s.array.(*array.List)
		}
	case accessString:
		s.texts, ok = textsOf(s.array)
	case accessNumber:
		switch s.array.(type) {
		case *array.Timestamp, *array.Int64, *array.Int32:
			ok = true
		}
	case accessList:
		var list *array.List
		if list, ok = s.array.(*array.List); ok {
			s.lists = list
			s.texts, ok = textsOf(list.ListValues())
		}
	case accessMap:
		ok = s.bindMap()
	default: // the others are read through one of these
	}
	if !ok {
		return fmt.Errorf("column %s has type %s, which rules cannot read", s.plan.name, s.array.DataType())
	}
	if s.dict != nil {
		return s.dict.fault
	}
	return nil
}

func (s *columnState) bindMap() bool {
	m, ok := s.array.(*array.Map)
	if !ok {
		return false
	}
	s.lists, s.items = m, nil
	if s.keys, ok = codesOf(m.Keys()); !ok {
		return false
	}
	items := m.Items()
	if list, isList := items.(*array.List); isList {
		s.items, items = list, list.ListValues()
	}
	s.texts, ok = textsOf(items)
	return ok
}

func (s *columnState) null(row int) bool { return s.array == nil || s.array.IsNull(row) }

// number returns the value of row as text.
func (s *columnState) number(row int) value {
	var n int64
	isTime := false
	switch a := s.array.(type) {
	case *array.Timestamp:
		n, isTime = int64(a.Value(row)), true
	case *array.Int64:
		n = a.Value(row)
	case *array.Int32:
		n = int64(a.Value(row))
	}
	s.scratch = strconv.AppendInt(s.scratch[:0], n, 10)
	return value{text: alias(s.scratch), number: true, time: isTime}
}

// list calls visit for each text of a row until it returns false.
func (s *columnState) list(row int, visit func(string) bool) {
	start, end := s.lists.ValueOffsets(row)
	for i := start; i < end; i++ {
		if !visit(s.texts.at(int(i), &s.scratch)) {
			return
		}
	}
}

// entry calls visit for each text under key of a map's row until it returns false. found says whether
// the row has the key, n how many texts that holds.
func (s *columnState) entry(row int, key string, visit func(string) bool) (n int, found bool) {
	if s.null(row) {
		return 0, false
	}
	start, end := s.lists.ValueOffsets(row)
	for i := start; i < end; i++ {
		if s.keys.values.Value(s.keys.at(int(i))) != key {
			continue
		}
		from, to := i, i+1
		if s.items != nil {
			from, to = s.items.ValueOffsets(int(i))
		}
		for j := from; j < to; j++ {
			if !visit(s.texts.at(int(j), &s.scratch)) {
				break
			}
		}
		return int(to - from), true
	}
	return 0, false
}

// size returns the number of entries or texts of a row.
func (s *columnState) size(row int) int {
	if s.null(row) {
		return 0
	}
	start, end := s.lists.ValueOffsets(row)
	return int(end - start)
}
