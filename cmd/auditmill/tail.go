package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

type tailOptions struct {
	fromStart bool
	count     int
	filters   []string
	raw       bool
}

func newTail(o *options) *cobra.Command {
	var t tailOptions
	topics := make([]string, 0, 7)
	for _, topic := range schemas.Topics(1) {
		topics = append(topics, topic.Name)
	}
	cmd := &cobra.Command{
		Use:   "tail TOPIC",
		Short: "Print the records of a topic as JSON lines",
		Long: `Print the records of a topic as JSON lines, one event a line for audit.raw.v1 and audit.enriched.v1.
A filter compares a field with a text: FIELD=TEXT (equal), FIELD!=TEXT (not equal), FIELD~TEXT (contains). FIELD may be a
path with dots; several filters must all hold. Without --raw the field raw of enriched events is left out.`,
		Example: `  auditmill tail audit.enriched.v1 --filter resource=secrets --filter actor~alice
  auditmill tail audit.alerts.v1 --from-start -n 10
  auditmill tail audit.dead.v1 --from-start | jq .reason`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(topics, args[0]) {
				return &usageError{fmt.Errorf("name one topic of: %s", strings.Join(topics, ", "))}
			}
			return nil
		},
		ValidArgs: topics,
		RunE: func(cmd *cobra.Command, args []string) error {
			return tail(cmd, o, &t, args[0])
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&t.fromStart, "from-start", false, "begin with the oldest record instead of the next one")
	flags.IntVarP(&t.count, "count", "n", 0, "stop after `N` lines; 0: go on until interrupted")
	flags.StringArrayVarP(&t.filters, "filter", "f", nil, "print only lines where `FIELD=TEXT` holds; may be repeated")
	flags.BoolVar(&t.raw, "raw", false, "with the field raw of enriched events")
	return cmd
}

func tail(cmd *cobra.Command, o *options, t *tailOptions, topic string) error {
	cfg, err := o.load()
	if err != nil {
		return err
	}
	filters, err := parseFilters(t.filters)
	if err != nil {
		return err
	}
	opts, err := kafka.Opts(cfg.Kafka)
	if err != nil {
		return err
	}
	start := kgo.NewOffset().AtEnd()
	if t.fromStart {
		start = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(start),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return fmt.Errorf("reading %s: %w", topic, err)
	}
	defer client.Close()
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	if err := kafka.WaitForBroker(ctx, client, cfg.Kafka); err != nil {
		return err
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	p := printer{out: out, filters: filters, left: t.count, raw: t.raw}
	err = p.follow(ctx, client)
	if flushed := out.Flush(); err == nil && flushed != nil {
		err = ignoreClosedPipe(flushed)
	}
	return err
}

// printer writes the lines that pass the filters.
type printer struct {
	out     *bufio.Writer
	filters []filter
	left    int // lines still to print; 0 for no end
	raw     bool
	done    bool
}

func (p *printer) follow(ctx context.Context, client *kgo.Client) error {
	for !p.done && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			if kafka.Fatal(e.Err) {
				return fmt.Errorf("reading %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		for it := fetches.RecordIter(); !it.Done() && !p.done; {
			if err := p.record(it.Next()); err != nil {
				return err
			}
		}
		if err := p.out.Flush(); err != nil {
			return ignoreClosedPipe(err)
		}
	}
	return nil
}

func (p *printer) record(r *kgo.Record) error {
	if r.Topic != schemas.TopicEnriched {
		return p.line(recordJSON(r))
	}
	batch, err := schemas.Decode(r.Value)
	if err != nil {
		return fmt.Errorf("%s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	defer batch.Release()
	if last := int(batch.NumCols()) - 1; !p.raw && batch.ColumnName(last) == "raw" {
		batch = schemas.WithoutLastColumn(batch)
		defer batch.Release()
	}
	for row := range int(batch.NumRows()) {
		if err := p.line(schemas.AppendRowJSON(nil, batch, row)); err != nil || p.done {
			return err
		}
	}
	return nil
}

func (p *printer) line(line []byte) error {
	for _, f := range p.filters {
		if !f.match(line) {
			return nil
		}
	}
	if _, err := p.out.Write(append(line, '\n')); err != nil {
		return ignoreClosedPipe(err)
	}
	if p.left > 0 {
		p.left--
		p.done = p.left == 0
	}
	return nil
}

// ignoreClosedPipe lets `tail | head` end in peace.
func ignoreClosedPipe(err error) error {
	if errors.Is(err, io.ErrClosedPipe) || strings.Contains(err.Error(), "broken pipe") {
		return nil
	}
	return err
}

// recordJSON shows a record whose value is one JSON document, or bytes of any kind.
func recordJSON(r *kgo.Record) []byte {
	headers := make(map[string]string, len(r.Headers))
	for _, h := range r.Headers {
		headers[h.Key] = printable(h.Value)
	}
	shown := struct {
		Partition int32             `json:"partition"`
		Offset    int64             `json:"offset"`
		Timestamp time.Time         `json:"timestamp"`
		Key       string            `json:"key,omitempty"`
		Headers   map[string]string `json:"headers,omitempty"`
		Value     json.RawMessage   `json:"value,omitempty"`
		Base64    string            `json:"base64,omitempty"`
	}{Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC(), Key: printable(r.Key), Headers: headers}
	switch {
	case json.Valid(r.Value) && utf8.Valid(r.Value):
		shown.Value = r.Value
	case len(r.Value) > 0:
		shown.Base64 = base64.StdEncoding.EncodeToString(r.Value)
	}
	line, err := json.Marshal(shown)
	if err != nil {
		return fmt.Appendf(nil, `{"error":%q}`, err.Error())
	}
	return line
}

// printable shows bytes as text if they are, in hexadecimal otherwise.
func printable(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return fmt.Sprintf("%x", b)
}

// filter is one --filter.
type filter struct {
	path     []string
	operator string
	text     string
}

func parseFilters(texts []string) ([]filter, error) {
	var filters []filter
	for _, text := range texts {
		i := strings.IndexAny(text, "=~!")
		if i < 1 || text[i] == '!' && !strings.HasPrefix(text[i:], "!=") {
			return nil, &usageError{fmt.Errorf("--filter %q: write FIELD=TEXT, FIELD!=TEXT or FIELD~TEXT", text)}
		}
		operator := text[i : i+1]
		if operator == "!" {
			operator = "!="
		}
		filters = append(filters, filter{strings.Split(text[:i], "."), operator, text[i+len(operator):]})
	}
	return filters, nil
}

func (f *filter) match(line []byte) bool {
	var value any
	if json.Unmarshal(line, &value) != nil {
		return false
	}
	found := lookup(value, f.path, func(text string) bool {
		if f.operator == "~" {
			return strings.Contains(text, f.text)
		}
		return text == f.text
	})
	return found != (f.operator == "!=")
}

// lookup reports whether any value at the path passes. Keys may hold dots themselves, and
// of a list any element counts.
func lookup(value any, path []string, pass func(string) bool) bool {
	switch v := value.(type) {
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return lookup(item, path, pass) })
	case map[string]any:
		for n := 1; n <= len(path); n++ {
			if next, ok := v[strings.Join(path[:n], ".")]; ok && lookup(next, path[n:], pass) {
				return true
			}
		}
		return false
	}
	if len(path) > 0 {
		return false
	}
	switch v := value.(type) {
	case nil:
		return pass("")
	case string:
		return pass(v)
	default:
		return pass(fmt.Sprint(v))
	}
}
