package load

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/internal/kafka"
)

// alertSink inserts values of audit.alerts.v1, each a JSON object, as JSONEachRow. The table keeps one
// row for each id, so a repetition does no harm even without a token.
type alertSink struct {
	*inserter
	table string
}

func newAlertSink(in *inserter, c ClickHouse) *alertSink {
	o := c.SQL()
	return &alertSink{inserter: in, table: o.Database + "." + o.LocalTable("alerts")}
}

func (a *alertSink) prepare(_ context.Context, record *kgo.Record) (item, error) {
	if len(record.Value) == 0 {
		return item{}, nil // the topic is compacted: this says that an alert is gone there
	}
	bad, fatal := checkVersion(record)
	if bad == nil && fatal == nil {
		bad = checkAlert(record.Value)
	}
	if bad != nil || fatal != nil {
		return item{bad: bad}, fatal
	}
	return item{rows: 1, bytes: len(record.Value)}, nil
}

func checkAlert(value []byte) error {
	if err := jsonscan.Valid(value); err != nil {
		return err
	}
	if bytes.TrimLeft(value, " \t\r\n")[0] != '{' {
		return errors.New("not a JSON object")
	}
	if id, ok := jsonscan.Get(value, "id"); !ok || len(id) <= len(`""`) {
		return errors.New("the alert has no id")
	}
	return nil
}

func (a *alertSink) joins(*item, *item) bool { return true }

func (a *alertSink) insert(ctx context.Context, token string, items []item) error {
	body := make(net.Buffers, 0, 2*len(items))
	for _, it := range items {
		body = append(body, it.record.Value, []byte{'\n'})
	}
	return a.inserter.insert(ctx, a.table, "JSONEachRow", token, len(items), &body)
}

// compare need not look at the table: it halves what is refused until the culprits are alone.
func (a *alertSink) compare(ctx context.Context, _ string, items []item, bury func(kafka.Dead) error) error {
	err := a.insert(ctx, once(), items)
	switch {
	case err == nil:
		return nil
	case !isRefusal(err):
		return err
	case len(items) == 1:
		return bury(kafka.DeadRecord(items[0].record, reasonRefused, err))
	}
	for half := range slices.Chunk(items, (len(items)+1)/2) {
		if err := a.compare(ctx, "", half, bury); err != nil {
			return err
		}
	}
	return nil
}
