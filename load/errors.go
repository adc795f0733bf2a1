package load

import (
	"context"
	"errors"
	"slices"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
)

// Codes of ClickHouse exceptions that we act on, as in its ErrorCodes.cpp.
const (
	codeTableExists     = 57
	codeUnknownTable    = 60
	codeUnknownDatabase = 81
	codeMemoryLimit     = 241
)

// exceptionCode returns the code of the ClickHouse exception inside err, or 0.
func exceptionCode(err error) int {
	if exception, ok := errors.AsType[*clickhouse.Exception](err); ok {
		return int(exception.Code)
	}
	return 0
}

// isRefusal reports whether ClickHouse will refuse the same bytes every time: values that cannot be
// read, converted or stored.
func isRefusal(err error) bool { return slices.Contains(refusals(), exceptionCode(err)) }

func refusals() []int {
	return []int{
		6,    // CANNOT_PARSE_TEXT
		19,   // SIZE_OF_FIXED_STRING_DOESNT_MATCH
		25,   // CANNOT_PARSE_ESCAPE_SEQUENCE
		26,   // CANNOT_PARSE_QUOTED_STRING
		27,   // CANNOT_PARSE_INPUT_ASSERTION_FAILED
		33,   // CANNOT_READ_ALL_DATA
		38,   // CANNOT_PARSE_DATE
		39,   // TOO_LARGE_SIZE_COMPRESSED
		41,   // CANNOT_PARSE_DATETIME
		53,   // TYPE_MISMATCH
		69,   // ARGUMENT_OUT_OF_BOUND
		70,   // CANNOT_CONVERT_TYPE
		72,   // CANNOT_PARSE_NUMBER
		117,  // INCORRECT_DATA
		128,  // TOO_LARGE_ARRAY_SIZE
		131,  // TOO_LARGE_STRING_SIZE
		190,  // SIZES_OF_ARRAYS_DONT_MATCH
		321,  // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
		349,  // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
		271,  // CANNOT_DECOMPRESS
		469,  // VIOLATED_CONSTRAINT
		632,  // UNEXPECTED_DATA_AFTER_PARSED_VALUE
		636,  // CANNOT_EXTRACT_TABLE_STRUCTURE
		1001, // STD_EXCEPTION, which the Arrow reader throws for broken bytes
	}
}

// Reasons of repeated inserts: a closed set for metrics.
const (
	retryNetwork  = "network"
	retryMemory   = "memory"
	retryParts    = "too_many_parts"
	retryTimeout  = "timeout"
	retryReadonly = "readonly"
	retryOther    = "other"
)

func retryReasons() []string {
	return []string{retryNetwork, retryMemory, retryParts, retryTimeout, retryReadonly, retryOther}
}

func retryReason(err error) string {
	switch exceptionCode(err) {
	case 0:
		if errors.Is(err, context.DeadlineExceeded) {
			return retryTimeout
		}
		if errors.Is(err, errCompare) {
			return retryOther
		}
		return retryNetwork
	case codeMemoryLimit:
		return retryMemory
	case 252: // TOO_MANY_PARTS
		return retryParts
	case 159, 209: // TIMEOUT_EXCEEDED, SOCKET_TIMEOUT
		return retryTimeout
	case 164, 242: // READONLY, TABLE_IS_READ_ONLY
		return retryReadonly
	}
	return retryOther
}

// mayPass reports whether an error has nothing to do with the rows: time will tell. What is neither
// this nor a refusal is repeated a few times and then looked into, row by row.
func mayPass(err error) bool {
	return slices.Contains([]int{
		0,                // no answer from ClickHouse
		codeUnknownTable, // it may be created
		codeUnknownDatabase,
		codeMemoryLimit,
		159, // TIMEOUT_EXCEEDED
		164, // READONLY
		202, // TOO_MANY_SIMULTANEOUS_QUERIES
		209, // SOCKET_TIMEOUT
		210, // NETWORK_ERROR
		225, // NO_ZOOKEEPER
		236, // ABORTED
		242, // TABLE_IS_READ_ONLY
		243, // NOT_ENOUGH_SPACE
		252, // TOO_MANY_PARTS
		285, // TOO_FEW_LIVE_REPLICAS
		319, // UNKNOWN_STATUS_OF_INSERT
		394, // QUERY_WAS_CANCELLED
		999, // KEEPER_EXCEPTION
	}, exceptionCode(err)) || isAccess(err)
}

// isAccess reports whether the user name, the password or a grant is wrong.
func isAccess(err error) bool {
	// UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, ACCESS_DENIED, AUTHENTICATION_FAILED
	return slices.Contains([]int{192, 193, 194, 497, 516}, exceptionCode(err))
}
