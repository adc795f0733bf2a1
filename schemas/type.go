package schemas

// Type is the type of a column, in Arrow and in ClickHouse.
type Type uint8

// The types of columns.
const (
	TypeID      Type = iota // 16 bytes: fixed_size_binary(16), FixedString(16)
	TypeDict                // a string of few distinct values: dictionary<utf8>, LowCardinality(String)
	TypeString              // utf8, String
	TypeTime                // µs since 1970 in UTC: timestamp[us], DateTime64(6, 'UTC')
	TypeInt64               // int64, Int64
	TypeInt32               // int32, Int32
	TypeUint16              // uint16, UInt16
	TypeStrings             // list<utf8>, Array(String)
	TypeDicts               // list<dictionary<utf8>>, Array(LowCardinality(String))
	TypeMap                 // map<dictionary<utf8>, utf8>, Map(LowCardinality(String), String)
	TypeMapList             // map<dictionary<utf8>, list<utf8>>, Map(LowCardinality(String), Array(String))
	TypeBytes               // binary, String
)

// ClickHouse returns the ClickHouse type of a column of type t.
func (t Type) ClickHouse() string {
	return [...]string{
		TypeID: "FixedString(16)", TypeDict: "LowCardinality(String)", TypeString: "String",
		TypeTime: "DateTime64(6, 'UTC')", TypeInt64: "Int64", TypeInt32: "Int32", TypeUint16: "UInt16",
		TypeStrings: "Array(String)", TypeDicts: "Array(LowCardinality(String))",
		TypeMap: "Map(LowCardinality(String), String)", TypeMapList: "Map(LowCardinality(String), Array(String))",
		TypeBytes: "String",
	}[t]
}
