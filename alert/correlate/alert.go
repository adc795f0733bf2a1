package correlate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// digest tells whether there is news about an alert.
type digest struct {
	events      int
	first, last int64
	newest      eventID
	version     uint64 // of the newest event
	value       float64
}

// Bounds of a sentence, in bytes.
const (
	maxInText   = 300
	maxSentence = 2 << 10
)

// alertID is the same whenever, and in whatever order, the signals came.
func (st *state) alertID(g *group, kind string, anchor ...string) string {
	return schemas.AlertID(st.ID, joined(append([]string{g.key, kind}, anchor...)))
}

// raise gives out the alert of a group if there is news in it. entries are the events behind it, the
// newest of them or of its time is in d.
func (st *state) raise(g *group, id string, d *detail, at int64, entries []*entry, value float64, told *digest) {
	if d == nil || len(entries) == 0 {
		return
	}
	unique := map[eventID]bool{}
	var newest []string
	for _, e := range slices.Backward(entries) {
		if unique[e.id] {
			continue
		}
		unique[e.id] = true
		if len(newest) < schemas.MaxAlertEvents {
			newest = append(newest, st.eventName(e, d))
		}
	}
	slices.Reverse(newest)
	news := digest{
		events: len(unique), first: entries[0].time, last: entries[len(entries)-1].time, newest: d.id, value: value,
	}
	if d.alert != nil {
		news.version = d.alert.Version
	}
	if *told == news {
		return
	}
	*told = news
	values := st.groupValues(g)
	values[st.valueName()] = strconv.FormatFloat(value, 'f', -1, 64)
	st.give(g, id, d, at, news, newest, values)
}

// eventName is the id of an event as its signal had it.
func (st *state) eventName(e *entry, d *detail) string {
	if e.id == d.id && d.alert != nil && d.alert.EventID != "" {
		return d.alert.EventID
	}
	return e.id.String()
}

// valueName is how the counted or computed value is called in Alert.Values and in templates.
func (d *definition) valueName() string {
	switch d.Type {
	case ir.ValueSum:
		return "sum"
	case ir.ValueAvg:
		return "avg"
	case ir.ValuePercentile:
		return "percentile"
	case ir.Temporal, ir.TemporalOrdered:
		return "rules"
	case ir.Absence:
		return "silent_seconds"
	case ir.EventCount, ir.ValueCount, ir.FirstSeen:
	}
	return "count"
}

// raiseSeen gives out the alert of a combination of values that is new.
func (st *state) raiseSeen(g *group, s *stretch, tuple string, first *entry) {
	news := digest{events: 1, first: first.time, last: first.time, newest: first.id}
	if s.told == news {
		return
	}
	s.told = news
	values := st.groupValues(g)
	texts, err := split(tuple)
	for i, name := range st.ValueNames {
		if err == nil && i < len(texts) {
			values[name] = texts[i]
		}
	}
	st.give(g, s.id, s.detail, first.time, news, []string{st.eventName(first, s.detail)}, values)
}

func (st *state) groupValues(g *group) map[string]string {
	values := map[string]string{"timespan": st.Timespan.String()}
	for i, name := range st.GroupNames {
		values[name] = g.values[i]
	}
	return values
}

func (st *state) give(g *group, id string, d *detail, at int64, news digest, events []string, values map[string]string) {
	if st.Silent {
		return
	}
	var a schemas.Alert
	if d.alert != nil {
		a = *d.alert
	}
	a.ID, a.Rule, a.Title, a.Severity, a.Tags, a.Next = id, st.ID, st.Title, st.Level, st.Tags, st.Next
	if a.Tags == nil {
		a.Tags = []string{}
	}
	a.Time, a.RaisedAt = micro(at), st.engine.now().UTC()
	a.Events, a.EventIDs = uint64(news.events), events
	a.FirstTime, a.LastTime, a.Values = micro(news.first), micro(news.last), values
	look := func(f ir.Field) []string {
		if v, ok := values[f.Name]; ok {
			if v == "" {
				return nil
			}
			return []string{v}
		}
		return d.fields[f.String()]
	}
	if st.GroupBy == nil {
		a.GroupID = schemas.AlertGroup(st.ID, g.values...)
	} else {
		var by []string
		for _, f := range st.GroupBy {
			by = append(by, strings.Join(look(f), " "))
		}
		a.GroupID = schemas.AlertGroup(st.ID, by...)
	}
	a.Summary = st.sentence(look, &a)
	st.engine.out.Alerts = append(st.engine.out.Alerts, a)
}

func micro(t int64) time.Time { return time.UnixMicro(t).UTC() }

// sentence is the summary that the rule gives, or one that says what there is to say.
func (st *state) sentence(look func(ir.Field) []string, a *schemas.Alert) string {
	text := st.Summary.Render(func(f ir.Field) []string {
		var short []string
		for _, v := range look(f) {
			short = append(short, notify.Printable(v, maxInText))
		}
		return short
	})
	if text != "" {
		return notify.Printable(text, maxSentence)
	}
	var b strings.Builder
	b.WriteString(st.Title + ": ")
	switch st.Type {
	case ir.Absence:
		fmt.Fprintf(&b, "nothing for %s since %s", st.Timespan, a.LastTime.Format(time.RFC3339))
	case ir.FirstSeen:
		fmt.Fprintf(&b, "not seen for %s", st.Timespan)
	case ir.EventCount, ir.Temporal, ir.TemporalOrdered:
		plural := "s"
		if a.Events == 1 {
			plural = ""
		}
		fmt.Fprintf(&b, "%d event%s within %s", a.Events, plural, st.Timespan)
	case ir.ValueCount, ir.ValueSum, ir.ValueAvg, ir.ValuePercentile:
		fmt.Fprintf(&b, "%s of %s is %s within %s", st.valueName(), strings.Join(st.ValueNames, ", "),
			a.Values[st.valueName()], st.Timespan)
	}
	names := slices.Clone(st.GroupNames)
	if st.Type == ir.FirstSeen {
		names = append(names, st.ValueNames...)
	}
	for _, name := range names {
		if v := a.Values[name]; v != "" {
			fmt.Fprintf(&b, ", %s %s", name, notify.Printable(v, maxInText))
		}
	}
	return notify.Printable(b.String(), maxSentence)
}

// match hands a match of this correlation to those that count it. Those know the fields of its group, by
// name, its value and its cluster.
func (st *state) match(g *group, id string, at int64, value float64, d *detail) {
	values := st.groupValues(g)
	values[st.valueName()] = strconv.FormatFloat(value, 'f', -1, 64)
	alert := schemas.Alert{EventID: id, Time: micro(at)}
	if d != nil && d.alert != nil {
		alert = *d.alert
		alert.EventID, alert.Time = id, micro(at)
	} else if cluster, ok := values["cluster"]; ok {
		alert.Cluster = cluster
	}
	st.engine.feed(st.engine.set.Signals(Match{
		Rule: st.ID, Time: micro(at), Alert: func() *schemas.Alert { return &alert },
		Values: func(f ir.Field) []string {
			if v, ok := values[f.Name]; ok {
				return []string{v}
			}
			return nil
		},
	}))
}
