package notify

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ellipsis marks where a text was cut.
const ellipsis = "…"

// Printable returns s as one line that shows what is in it: control characters, line
// breaks, characters that reorder or hide text and bytes that are no UTF-8 become escapes
// such as \n, \x1b and \u202e. What is longer than limit bytes is cut at a character.
//
// Names, user agents and audit ids are chosen by whoever sends the request, so nothing of
// an event is shown to a person without it.
func Printable(s string, limit int) string {
	if isPlain(s) && len(s) <= limit {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() <= limit; {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unicode.IsPrint(r):
			b.WriteString(escapeRune(r))
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return cut(b.String(), limit)
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func escapeRune(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	default:
		return fmt.Sprintf(`\U%08x`, r)
	}
}

// slackEscape replaces the three characters that start Slack's mentions, links and
// entities. See https://docs.slack.dev/messaging/formatting-message-text.
func slackEscape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// inert returns s with look-alikes for the characters that make markup, links and mentions in
// chats and dashboards: others render what we send them, each in its own way.
func inert(s string) string {
	return strings.NewReplacer(
		"<", "‹", ">", "›", "&", "＆", "`", "ˋ", "*", "∗", "~", "∼", "[", "［", "]", "］", "{{", "｛｛", "}}", "｝｝",
		"://", "∶//", "@here", "＠here", "@channel", "＠channel", "@everyone", "＠everyone", "@all", "＠all",
	).Replace(s)
}

// slackCode returns s as inline code of Slack's markup, at most limit bytes long. Inside
// inline code nothing is formatted, linked or turned into an emoji; the only character
// that would end it is replaced by its look-alike.
func slackCode(s string, limit int) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return "–"
	}
	return "`" + cutEscaped(strings.ReplaceAll(s, "`", "ˋ"), limit-2) + "`"
}

// cutEscaped escapes s for Slack and cuts it so that the result, and no entity in it,
// goes beyond limit bytes.
func cutEscaped(s string, limit int) string {
	if escaped := slackEscape(s); len(escaped) <= limit {
		return escaped
	}
	var b strings.Builder
	for _, r := range s {
		piece := slackEscape(string(r))
		if b.Len()+len(piece)+len(ellipsis) > limit {
			break
		}
		b.WriteString(piece)
	}
	b.WriteString(ellipsis)
	return b.String()
}

// cut shortens s to limit bytes at a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:max(end, 0)] + ellipsis
}
