package load

import (
	"context"
	"net"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// salvage inserts what can be inserted of a range that was refused as a whole.
type salvage struct {
	sink   *eventSink
	bury   func(kafka.Dead) error
	stored int // rows that are in the table

	// doubtful are single rows that failed for a reason that is not known to lie in the row.
	doubtful []kafka.Dead
	err      error // of the last of them
}

// rows inserts rows [i, j) of a batch; what is refused is halved until the culprits are alone.
func (s *salvage) rows(ctx context.Context, batch arrow.RecordBatch, i, j int) error {
	slice := batch.NewSlice(int64(i), int64(j))
	value, err := schemas.Encode(slice)
	slice.Release()
	if err != nil {
		return err
	}
	err = s.sink.inserter.insert(ctx, s.sink.table, "ArrowStream", once(), j-i, &net.Buffers{value})
	split := !mayPass(err) || exceptionCode(err) == codeMemoryLimit
	switch {
	case err == nil:
		s.stored += j - i
		return nil
	case j-i > 1 && split:
		middle := i + (j-i)/2
		if err := s.rows(ctx, batch, i, middle); err != nil {
			return err
		}
		return s.rows(ctx, batch, middle, j)
	case isRefusal(err):
		return s.bury(deadRow(batch, i, err))
	case mayPass(err):
		return err
	}
	s.doubtful, s.err = append(s.doubtful, deadRow(batch, i, err)), err
	return nil
}

// finish buries the doubtful rows if others were stored: then it is the row and not the server. Otherwise
// it returns the error, and all is tried again later.
func (s *salvage) finish() error {
	if s.stored == 0 {
		return s.err
	}
	for _, d := range s.doubtful {
		if err := s.bury(d); err != nil {
			return err
		}
	}
	return nil
}
