package notify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/schemas"
)

// groupMessages are the messages about a group over time, and a digest.
func groupMessages() map[string]Message {
	g := &Group{ID: schemas.AlertGroup("g")}
	for n := range 7 {
		a := *usualAlert()
		a.ID, a.Time = alertID(n), a.Time.Add(time.Duration(n)*time.Minute)
		a.Summary = fmt.Sprintf("alice@example.com ran in pod shop/web-0: cat /run/secrets/token-%d", n)
		if n == 3 {
			a.Summary = hostileAlert().Summary
		}
		g.add(&a, time.Hour, a.Time)
	}
	out := map[string]Message{}
	group := newGroupMessage(g, KindUpdate, "Acknowledged by @bob (Slack user U1) until 2026-11-22 05:24:58 UTC")
	group.At, group.Buttons = Receipt{"C1", "1.2"}, true
	again := newGroupMessage(g, KindAgain, "")
	again.At, again.Before = group.At, 4
	out["group"], out["again"] = group, again
	var groups []*Group
	for n := range 40 {
		a := *usualAlert()
		a.Severity, a.Title = []string{critical, high, low}[n%3], fmt.Sprintf("Rule number %d", n%11)
		if n%5 == 0 {
			a.Actor = hostileAlert().Actor
		}
		one := &Group{ID: fmt.Sprint(n)}
		one.add(&a, time.Hour, a.Time)
		groups = append(groups, one)
	}
	out["digest"] = newDigest(groups, 5, usualAlert().Time)
	return out
}

func TestGroupMessagesAreGolden(t *testing.T) {
	for name, m := range groupMessages() {
		golden(t, name+".slack.json", slackJSON(t, &m))
		golden(t, name+".slack.txt", slackPlain(&m)+"\n")
		for _, b := range blocksOf(t, []byte(send(t, &m, false))) {
			checkBlock(t, b)
		}
	}
}

// blocksOf are the blocks of a message; of buttons there is only the type.
func blocksOf(t *testing.T, message []byte) []blockJSON {
	t.Helper()
	var sent struct{ Blocks []json.RawMessage }
	if err := json.Unmarshal(message, &sent); err != nil {
		t.Fatal(err)
	}
	out := make([]blockJSON, len(sent.Blocks))
	for i, raw := range sent.Blocks {
		var kind struct{ Type string }
		if err := json.Unmarshal(raw, &kind); err != nil {
			t.Fatal(err)
		}
		if kind.Type == "actions" {
			out[i].Type = kind.Type
			continue
		}
		if err := json.Unmarshal(raw, &out[i]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// The picture in the documentation is drawn from the golden file of the message.
func TestPicture(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "group.slack.json"))
	if err != nil {
		t.Fatal(err)
	}
	got := picture(t, text)
	path := filepath.Join("..", "..", "docs", "slack-message.svg")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what go test ./alert/notify -update draws: -want +got:\n%s", path, diff)
	}
}

type canvas struct {
	b strings.Builder
	y int
}

func (c *canvas) line(text, style string, height int) {
	c.y += height
	var safe strings.Builder
	_ = xml.EscapeText(&safe, []byte(text)) // a Builder never fails
	fmt.Fprintf(&c.b, `<text x="24" y="%d" xml:space="preserve" style="%s">%s</text>`+"\n", c.y, style, safe.String())
}

// text draws Slack's markup as far as we use it: bold labels, code, dates.
func (c *canvas) text(s string) {
	s = regexp.MustCompile(`<!date\^[^|]*\|([^>]*)>`).ReplaceAllString(s, "$1")
	s = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(s)
	for line := range strings.SplitSeq(s, "\n") {
		style := "font:14px sans-serif;fill:#1d1c1d"
		switch {
		case line == "```":
			continue
		case strings.HasPrefix(line, "*") && strings.HasSuffix(line, "*"):
			line, style = strings.Trim(line, "*"), "font:bold 14px sans-serif;fill:#1d1c1d"
		case strings.HasPrefix(line, "`") || strings.Contains(s, "```"):
			line, style = strings.Trim(line, "`"), "font:12px monospace;fill:#c01343"
		}
		for runes := []rune(line); len(runes) > 0; runes = runes[min(len(runes), 105):] {
			c.line(string(runes[:min(len(runes), 105)]), style, 19)
		}
	}
}

func picture(t *testing.T, message []byte) string {
	t.Helper()
	c := &canvas{y: 10}
	for _, b := range blocksOf(t, message) {
		c.y += 8
		switch b.Type {
		case "header":
			c.line(b.Text.Text, "font:bold 18px sans-serif;fill:#1d1c1d", 24)
		case "actions":
			c.line("[ Acknowledge ]   [ Silence 1 h ]   [ Silence 24 h ]", "font:bold 13px sans-serif;fill:#1264a3", 22)
		case "context":
			for _, e := range b.Elements {
				c.line(e.Text, "font:12px sans-serif;fill:#616061", 17)
			}
		default:
			if b.Text != nil {
				c.text(b.Text.Text)
			}
			for _, f := range b.Fields {
				c.text(strings.NewReplacer("*", "", "*\n", ": ", "`", "").Replace(f.Text))
			}
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="900" height="%d">
<rect width="100%%" height="100%%" fill="#ffffff" stroke="#dddddd"/><rect width="6" height="100%%" fill="#e01e5a"/>
%s</svg>
`, c.y+20, c.b.String())
}
