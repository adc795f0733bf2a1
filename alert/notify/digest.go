package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slack-go/slack"
)

// Digest is what one message says about many groups.
type Digest struct {
	Groups int
	Alerts uint64
	// Alone is the number of groups, the most severe ones, that are posted by themselves next.
	Alone       int
	First, Last time.Time // in event time
	// BySeverity is complete, the most severe first; the others hold the most frequent.
	BySeverity, ByRule, ByActor, ByCluster []*Share
}

// Share is a part of a digest.
type Share struct {
	Name   string
	Groups int
	Alerts uint64
}

const maxShares = 8

// newDigest tells of groups, the most severe first; alone more are posted by themselves.
func newDigest(groups []*Group, alone int, now time.Time) Message {
	d := &Digest{Groups: len(groups), Alone: alone}
	severities, rules, actors, clusters := shares{}, shares{}, shares{}, shares{}
	for _, g := range groups {
		d.Alerts += g.Count
		if !g.First.IsZero() && (d.First.IsZero() || g.First.Before(d.First)) {
			d.First = g.First
		}
		if g.Last.After(d.Last) {
			d.Last = g.Last
		}
		severities.add(g.Severity, g.Count)
		rules.add(cmp.Or(g.Alert.Title, g.Alert.Rule, "unknown rule"), g.Count)
		actors.add(cmp.Or(g.Alert.Actor, "unknown caller"), g.Count)
		clusters.add(cmp.Or(g.Alert.Cluster, "unknown cluster"), g.Count)
	}
	d.BySeverity = slices.SortedFunc(maps.Values(severities), func(a, b *Share) int {
		return cmp.Compare(rank(a.Name), rank(b.Name))
	})
	d.ByRule, d.ByActor, d.ByCluster = rules.top(), actors.top(), clusters.top()
	return Message{
		Kind: KindDigest, Digest: d, Severity: d.BySeverity[0].Name, RaisedAt: now,
		Title: fmt.Sprintf("%d groups of alerts at once (%d alerts)", d.Groups, d.Alerts),
		Count: d.Alerts, First: d.First, Last: d.Last,
	}
}

type shares map[string]*Share

func (s shares) add(name string, alerts uint64) {
	name = Printable(name, maxShort/2)
	if s[name] == nil {
		s[name] = &Share{Name: name}
	}
	s[name].Groups++
	s[name].Alerts += alerts
}

func (s shares) top() []*Share {
	all := slices.SortedFunc(maps.Values(s), func(a, b *Share) int {
		return cmp.Or(cmp.Compare(b.Groups, a.Groups), cmp.Compare(b.Alerts, a.Alerts), strings.Compare(a.Name, b.Name))
	})
	if len(all) <= maxShares {
		return all
	}
	rest := &Share{Name: fmt.Sprintf("and %d more", len(all)-maxShares)}
	for _, share := range all[maxShares:] {
		rest.Groups += share.Groups
		rest.Alerts += share.Alerts
	}
	return append(all[:maxShares:maxShares], rest)
}

func (d *Digest) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "from %s to %s\n", whenText(d.First), whenText(d.Last))
	for _, part := range d.parts() {
		fmt.Fprintf(&b, "%s\n%s", part.label, sharesText(part.shares))
	}
	b.WriteString(d.rest())
	return b.String()
}

type digestPart struct {
	label  string
	shares []*Share
}

func (d *Digest) parts() []digestPart {
	return []digestPart{
		{"By severity", d.BySeverity}, {"By rule", d.ByRule}, {"By actor", d.ByActor}, {"By cluster", d.ByCluster},
	}
}

func (d *Digest) rest() string {
	if d.Alone == 0 {
		return "All of them are in the table alerts."
	}
	return fmt.Sprintf("The %d most severe follow by themselves. All of them are in the table alerts.", d.Alone)
}

func sharesText(shares []*Share) string {
	var b strings.Builder
	for _, s := range shares {
		fmt.Fprintf(&b, "%6d groups %7d alerts  %s\n", s.Groups, s.Alerts, s.Name)
	}
	return b.String()
}

// digestBlocks renders a digest in Block Kit; names stand in blocks of code.
func digestBlocks(m *Message) []slack.Block {
	d := m.Digest
	header := fmt.Sprintf("%s %s", symbol(m.Severity), m.Title)
	blocks := []slack.Block{
		slack.NewHeaderBlock(plainText(header, slackMaxHeader)),
		slack.NewSectionBlock(nil, []*slack.TextBlockObject{
			field("First", slackDate(d.First)), field("Last", slackDate(d.Last)),
		}, nil),
	}
	for _, part := range d.parts() {
		code := "```\n" + slackEscape(strings.ReplaceAll(sharesText(part.shares), "`", "ˋ")) + "```"
		if len(code) > slackMaxSection-40 {
			code = "```\n" + cutEscaped(strings.ReplaceAll(sharesText(part.shares), "`", "ˋ"), slackMaxSection-60) + "\n```"
		}
		blocks = append(blocks, slack.NewSectionBlock(markup("*"+part.label+"*\n"+code), nil, nil))
	}
	parts := []slack.MixedElement{plainText(d.rest(), slackMaxField)}
	if m.Repeat {
		parts = append(parts, plainText(repeatText, slackMaxField))
	}
	return append(blocks, slack.NewContextBlock("", parts...))
}
