package schemas

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// metadataVersion is the key of the schema's metadata that holds the record format version.
const metadataVersion = "auditmill.version"

// ArrowSchema returns the schema of one record of audit.enriched.v1.
func ArrowSchema() *arrow.Schema {
	columns := Columns()
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.Name, Type: c.Type.arrow(), Nullable: true}
	}
	metadata := arrow.NewMetadata([]string{metadataVersion}, []string{strconv.Itoa(Version)})
	return arrow.NewSchema(fields, &metadata)
}

func dictionaryType() *arrow.DictionaryType {
	return &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
}

func (t Type) arrow() arrow.DataType {
	switch t {
	case TypeID:
		return &arrow.FixedSizeBinaryType{ByteWidth: 16}
	case TypeDict:
		return dictionaryType()
	case TypeString:
		return arrow.BinaryTypes.String
	case TypeTime:
		return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	case TypeInt64:
		return arrow.PrimitiveTypes.Int64
	case TypeInt32:
		return arrow.PrimitiveTypes.Int32
	case TypeUint16:
		return arrow.PrimitiveTypes.Uint16
	case TypeStrings:
		return arrow.ListOf(arrow.BinaryTypes.String)
	case TypeDicts:
		return arrow.ListOf(dictionaryType())
	case TypeMap:
		return arrow.MapOf(dictionaryType(), arrow.BinaryTypes.String)
	case TypeMapList:
		return arrow.MapOf(dictionaryType(), arrow.ListOf(arrow.BinaryTypes.String))
	default:
		return arrow.BinaryTypes.Binary
	}
}

// Decode reads the record batch of a value of audit.enriched.v1. The caller must Release it.
// A batch whose schema this build does not know is an error, never a guess.
func Decode(value []byte) (arrow.RecordBatch, error) {
	r, err := ipc.NewReader(bytes.NewReader(value))
	if err != nil {
		return nil, fmt.Errorf("reading the Arrow schema: %w", err)
	}
	defer r.Release()
	if err := checkSchema(r.Schema()); err != nil {
		return nil, err
	}
	if !r.Next() {
		if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading the Arrow batch: %w", err)
		}
		return nil, errors.New("the Arrow stream holds no record batch")
	}
	batch := r.RecordBatch()
	batch.Retain()
	return batch, nil
}

func checkSchema(s *arrow.Schema) error {
	metadata := s.Metadata()
	i := metadata.FindKey(metadataVersion)
	if i < 0 {
		return fmt.Errorf("the Arrow schema has no %s: not written by auditmill", metadataVersion)
	}
	return CheckVersion([]byte(metadata.Values()[i]), false)
}

// ColumnArray returns the array of the named column, or nil if an older writer did not have it.
func ColumnArray(batch arrow.RecordBatch, name string) arrow.Array {
	indices := batch.Schema().FieldIndices(name)
	if len(indices) == 0 {
		return nil
	}
	return batch.Column(indices[0])
}

// WithoutLastColumn returns the batch without its last column, raw. The caller must Release it.
func WithoutLastColumn(batch arrow.RecordBatch) arrow.RecordBatch {
	columns := batch.Columns()
	last := len(columns) - 1
	schema := arrow.NewSchema(batch.Schema().Fields()[:last], nil)
	return array.NewRecordBatch(schema, columns[:last], batch.NumRows())
}
