package schemas

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// AppendRowJSON appends a row of an enriched batch as one JSON object, columns in order,
// nulls left out. It is for people and pipes; raw comes as the JSON value that it is.
func AppendRowJSON(dst []byte, batch arrow.RecordBatch, row int) []byte {
	return appendRowJSON(dst, batch, row, false)
}

// AppendWholeRowJSON is AppendRowJSON with every column: null, an empty list or an empty object if the row has no value.
func AppendWholeRowJSON(dst []byte, batch arrow.RecordBatch, row int) []byte {
	return appendRowJSON(dst, batch, row, true)
}

func appendRowJSON(dst []byte, batch arrow.RecordBatch, row int, whole bool) []byte {
	dst = append(dst, '{')
	first := true
	for i, field := range batch.Schema().Fields() {
		column := batch.Column(i)
		if !whole && (column.IsNull(row) || isEmptyList(column, row)) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendString(dst, field.Name)
		dst = append(dst, ':')
		dst = appendValue(dst, column, row)
	}
	return append(dst, '}')
}

func isEmptyList(column arrow.Array, row int) bool {
	list, ok := column.(array.ListLike)
	if !ok {
		return false
	}
	start, end := list.ValueOffsets(row)
	return start == end
}

func appendValue(dst []byte, column arrow.Array, row int) []byte {
	if column.IsNull(row) {
		return append(dst, "null"...)
	}
	switch a := column.(type) {
	case *array.Dictionary:
		return appendValue(dst, a.Dictionary(), a.GetValueIndex(row))
	case *array.String:
		return appendString(dst, a.Value(row))
	case *array.FixedSizeBinary:
		return appendString(dst, hex.EncodeToString(a.Value(row)))
	case *array.Timestamp:
		return appendString(dst, time.UnixMicro(int64(a.Value(row))).UTC().Format("2006-01-02T15:04:05.000000Z"))
	case *array.Int64:
		return strconv.AppendInt(dst, a.Value(row), 10)
	case *array.Int32:
		return strconv.AppendInt(dst, int64(a.Value(row)), 10)
	case *array.Uint16:
		return strconv.AppendUint(dst, uint64(a.Value(row)), 10)
	case *array.Binary:
		// Raw bytes may hold what is no UTF-8 inside strings; JSON readers expect UTF-8.
		if raw := a.Value(row); utf8.Valid(raw) && json.Valid(raw) {
			return append(dst, raw...)
		}
		return appendString(dst, string(a.Value(row)))
	case *array.Map:
		return appendMap(dst, a, row)
	case array.ListLike:
		return appendList(dst, a, row)
	}
	return appendString(dst, column.ValueStr(row))
}

func appendList(dst []byte, a array.ListLike, row int) []byte {
	start, end := a.ValueOffsets(row)
	dst = append(dst, '[')
	for i := start; i < end; i++ {
		if i > start {
			dst = append(dst, ',')
		}
		dst = appendValue(dst, a.ListValues(), int(i))
	}
	return append(dst, ']')
}

func appendMap(dst []byte, a *array.Map, row int) []byte {
	start, end := a.ValueOffsets(row)
	dst = append(dst, '{')
	for i := start; i < end; i++ {
		if i > start {
			dst = append(dst, ',')
		}
		dst = appendValue(dst, a.Keys(), int(i))
		dst = append(dst, ':')
		dst = appendValue(dst, a.Items(), int(i))
	}
	return append(dst, '}')
}

func appendString(dst []byte, s string) []byte {
	quoted, err := json.Marshal(s) // never fails for a string
	if err != nil {
		return append(dst, `""`...)
	}
	return append(dst, quoted...)
}
