package notify

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/slack-go/slack"
)

// The limits that Slack sets: a message that breaks one is refused as a whole.
// See https://docs.slack.dev/reference/block-kit/blocks. They count characters; we count
// bytes, which are never fewer.
const (
	slackMaxHeader  = 150
	slackMaxSection = 3000
	slackMaxField   = 2000
	slackMaxText    = 4000
)

// slackBlocks renders m in Block Kit. What comes from the event stands in plain_text or in
// code, where Slack interprets nothing.
func slackBlocks(m *Message) []slack.Block {
	switch {
	case m.Digest != nil:
		return digestBlocks(m)
	case m.At.TS != "" && m.Kind != KindUpdate:
		return replyBlocks(m)
	}
	header := fmt.Sprintf("%s %s · %s", symbol(m.Severity), strings.ToUpper(m.Severity), m.Title)
	if m.Count > 1 {
		header = fmt.Sprintf("%s %s · %d× %s", symbol(m.Severity), strings.ToUpper(m.Severity), m.Count, m.Title)
	}
	blocks := []slack.Block{slack.NewHeaderBlock(plainText(header, slackMaxHeader))}
	if m.body != "" {
		blocks = append(blocks, slack.NewSectionBlock(markup(cut(m.body, slackMaxSection)), nil, nil))
	} else {
		blocks = append(blocks, bodyBlocks(m)...)
	}
	if m.Note != "" {
		blocks = append(blocks, slack.NewSectionBlock(plainText(m.Note, slackMaxSection), nil, nil))
	}
	if m.Buttons {
		blocks = append(blocks, actionBlock(m.Group))
	}
	return append(blocks, slack.NewContextBlock("", footer(m)...))
}

// bodyBlocks are the body of a message about a group, unless a template renders it.
func bodyBlocks(m *Message) (blocks []slack.Block) {
	if m.Summary != "" {
		blocks = append(blocks, slack.NewSectionBlock(plainText(m.Summary, slackMaxSection), nil, nil))
	}
	if len(m.Warnings) > 0 {
		blocks = append(blocks, slack.NewSectionBlock(plainText(warningText(m), slackMaxSection), nil, nil))
	}
	if m.Count > 1 {
		blocks = append(blocks, countBlocks(m)...)
	}
	blocks = append(blocks, slack.NewSectionBlock(nil, []*slack.TextBlockObject{
		field("Actor", slackCode(m.Actor, slackMaxField/2)),
		field("Cluster", slackCode(m.Cluster, slackMaxField/2)),
		field("When", slackDate(m.When)),
		field("Source", slackCode(m.Source, slackMaxField/2)),
	}, nil))
	for _, l := range [][2]string{
		{"Who", m.Who}, {"What", m.What}, {"Command", m.Command}, {"Why", m.Why}, {"Rights", m.Rights}, {"Credential", m.Credential},
	} {
		if l[1] != "" {
			blocks = append(blocks, line(l[0], l[1]))
		}
	}
	if m.Next != "" {
		blocks = append(blocks,
			slack.NewSectionBlock(plainText("Next: "+m.Next, slackMaxSection), nil, nil))
	}
	if code := codeBlock(m.Query, slackMaxSection-40); code != "" {
		blocks = append(blocks, slack.NewSectionBlock(markup("*Show more*\n"+code), nil, nil))
	}
	return blocks
}

// warningText has one line for each warning.
func warningText(m *Message) string { return "⚠ " + strings.Join(m.Warnings, "\n⚠ ") }

// countBlocks say how often and when, and list the newest alerts of the group.
func countBlocks(m *Message) []slack.Block {
	blocks := []slack.Block{slack.NewSectionBlock(nil, []*slack.TextBlockObject{
		field("Seen", fmt.Sprintf("%d times", m.Count)),
		field("Events", strconv.FormatUint(m.Events, 10)),
		field("First", slackDate(m.First)),
		field("Last", slackDate(m.Last)),
	}, nil)}
	if len(m.Recent) < 2 {
		return blocks
	}
	return append(blocks, slack.NewSectionBlock(markup("*Latest*\n"+recentCode(m.Recent)), nil, nil))
}

// recentCode lists alerts in a block of code, each on one line.
func recentCode(recent []Recent) string {
	var b strings.Builder
	for _, r := range recent {
		at := "unknown"
		if !r.Time.IsZero() {
			at = r.Time.UTC().Format("15:04:05")
		}
		fmt.Fprintf(&b, "%s  %s\n", at, cutEscaped(strings.ReplaceAll(r.Summary, "`", "ˋ"), 2*maxShort))
	}
	return "```\n" + b.String() + "```"
}

// replyBlocks are what is said in the thread of a group's message.
func replyBlocks(m *Message) []slack.Block {
	said := "It goes on"
	if m.Kind == KindAgain {
		said = "It happens again"
	}
	header := fmt.Sprintf("%s %s: %s, %d times by now, %d since the message was changed last",
		symbol(m.Severity), said, m.Title, m.Count, m.Count-min(m.Before, m.Count))
	blocks := []slack.Block{slack.NewSectionBlock(plainText(header, slackMaxSection), nil, nil)}
	if len(m.Recent) > 0 {
		blocks = append(blocks, slack.NewSectionBlock(markup(recentCode(m.Recent)), nil, nil))
	}
	if m.Repeat {
		blocks = append(blocks, slack.NewContextBlock("", plainText(repeatText, slackMaxField)))
	}
	return blocks
}

const repeatText = "possibly a repeat: Slack did not confirm an earlier attempt"

func footer(m *Message) []slack.MixedElement {
	parts := []string{"rule " + m.Rule, "alert " + m.ID, "audit id " + cmp.Or(m.AuditID, "none")}
	if m.Group != "" && m.Group != m.ID {
		parts = append(parts, "group "+m.Group)
	}
	if m.UserAgent != "" {
		parts = append(parts, "client "+m.UserAgent)
	}
	if len(m.Tags) > 0 {
		parts = append(parts, strings.Join(m.Tags, ", "))
	}
	if m.Repeat {
		parts = append(parts, repeatText)
	}
	elements := make([]slack.MixedElement, len(parts))
	for i, part := range parts {
		elements[i] = plainText(part, slackMaxField)
	}
	return elements
}

// slackFallback is the text of notifications and of clients that show no blocks.
func slackFallback(m *Message) string {
	if m.Digest != nil {
		return fmt.Sprintf("%s %s", symbol(m.Severity), slackEscape(m.Title))
	}
	text := fmt.Sprintf("%s %s · %s · %s by %s", symbol(m.Severity), strings.ToUpper(m.Severity),
		slackEscape(m.Title), slackCode(m.Cluster, maxLine), slackCode(m.Actor, 2*maxLine))
	if m.Raw != nil && m.Raw.Team != "" {
		text += " of team " + slackCode(Printable(m.Raw.Team, maxShort), maxLine)
	}
	return text
}

// slackPlain renders m without blocks, for a Slack that refused them. All of it is one
// block of code, where Slack interprets nothing.
func slackPlain(m *Message) string {
	var b strings.Builder
	if m.Digest != nil {
		return "```\n" + cutEscaped(strings.ReplaceAll(m.Title+"\n"+m.Digest.text(), "`", "ˋ"), slackMaxText-8) + "\n```"
	}
	fmt.Fprintf(&b, "%s: %s\n%s\n", strings.ToUpper(m.Severity), m.Title, m.Summary)
	if m.Count > 1 {
		fmt.Fprintf(&b, "seen: %d times, first %s, last %s\n", m.Count, whenText(m.First), whenText(m.Last))
	}
	for _, w := range m.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	fmt.Fprintf(&b, "actor: %s\n", m.Actor)
	for _, l := range [][2]string{
		{"who", m.Who},
		{"cluster", cmp.Or(m.Cluster, "unknown")},
		{"source", cmp.Or(m.Source, "unknown")},
		{"what", m.What},
		{"command", m.Command},
		{"why", m.Why},
		{"rights", m.Rights},
		{"credential", m.Credential},
	} {
		if l[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", l[0], l[1])
		}
	}
	fmt.Fprintf(&b, "when: %s\nrule: %s\nalert: %s\nnext: %s", whenText(m.When), m.Rule, m.ID, m.Next)
	text := strings.ReplaceAll(b.String(), "`", "ˋ")
	return "```\n" + cutEscaped(text, slackMaxText-8) + "\n```"
}

func slackDate(t time.Time) string {
	if t.IsZero() {
		return whenText(t)
	}
	return fmt.Sprintf("<!date^%d^{date_short_pretty} {time_secs}|%s>", t.Unix(), whenText(t))
}

func line(label, value string) slack.Block {
	return slack.NewSectionBlock(markup("*"+label+"*\n"+slackCode(value, slackMaxSection-40)), nil, nil)
}

func field(label, value string) *slack.TextBlockObject {
	return markup("*" + label + "*\n" + value)
}

// codeBlock returns "" if s is empty or too long to be shown whole.
func codeBlock(s string, limit int) string {
	code := "```\n" + slackEscape(strings.ReplaceAll(s, "`", "ˋ")) + "\n```"
	if s == "" || len(code) > limit {
		return ""
	}
	return code
}

// markup is text in Slack's markup. Verbatim keeps Slack from looking for links, channels
// and users in it.
func markup(text string) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.MarkdownType, text, false, true)
}

// plainText is text in which Slack formats nothing and makes no emoji. It is escaped all the
// same: Slack decodes entities there too.
func plainText(text string, limit int) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.PlainTextType, cutEscaped(text, limit), false, false)
}
