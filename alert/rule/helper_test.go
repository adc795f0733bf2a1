package rule_test

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

func newBatch(schema *arrow.Schema, columns []arrow.Array) arrow.RecordBatch {
	return array.NewRecordBatch(schema, columns, int64(columns[0].Len()))
}
