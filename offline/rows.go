package offline

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/auditmill/auditmill/schemas"
)

// Rows returns what the rows of a history say of their events: all columns but those of the group record, as JSON without
// nulls, by fingerprint. That is the same wherever the row is, and however the event travelled.
func Rows(ctx context.Context, history History) (map[string]string, error) {
	rows := map[string]string{}
	var line []byte
	err := history(ctx, func(batch arrow.RecordBatch, _ func(int) Origin) error {
		said := sayings(batch)
		defer said.Release()
		prints, ok := schemas.ColumnArray(batch, "fingerprint").(*array.FixedSizeBinary)
		if !ok {
			return errors.New("the column fingerprint is missing, or no id")
		}
		for row := range int(batch.NumRows()) {
			line = schemas.AppendRowJSON(line[:0], said, row)
			rows[hex.EncodeToString(prints.Value(row))] = string(line)
		}
		return nil
	})
	return rows, err
}

// sayings is a batch without the columns of the group record. The caller must Release it.
func sayings(batch arrow.RecordBatch) arrow.RecordBatch {
	var fields []arrow.Field
	var columns []arrow.Array
	for _, c := range schemas.Columns() {
		if a := schemas.ColumnArray(batch, c.Name); a != nil && c.Group != schemas.GroupRecord {
			fields, columns = append(fields, arrow.Field{Name: c.Name, Type: a.DataType(), Nullable: true}), append(columns, a)
		}
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows())
}
