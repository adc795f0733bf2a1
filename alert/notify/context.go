package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// maxPart bounds one name in a sentence of several, in bytes.
const maxPart = 120

// maxRights is how many dangerous permissions a message spells out.
const maxRights = 3

// part is a name of an event or of the identity tables in a sentence. People choose their display names, and whoever makes a
// binding its name.
func part(s string) string { return Printable(s, maxPart) }

// parts joins what is known; empty is left out.
func parts(all ...string) string {
	return Printable(strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), ", "), maxLine)
}

// labelled returns a value with a word before it; empty if there is none.
func labelled(label, value string) string {
	if value == "" {
		return ""
	}
	return label + " " + part(value)
}

// who is what the identity tables and the cluster know of the actor: the person, or what runs under the service account.
func who(a *schemas.Alert) string {
	email := a.Email
	if email == a.Actor {
		email = ""
	}
	pod := labelled("pod", a.Pod)
	if a.Node != "" && pod != "" {
		pod += " on node " + part(a.Node)
	}
	return parts(part(a.DisplayName), part(email), labelled("team", a.Team), labelled("manager", a.Manager),
		labelled("runs as", a.Workload), pod, labelled("cloud identity", a.CloudIdentity))
}

// source is where the request came from.
func source(a *schemas.Alert) string {
	node := labelled("node", a.SourceNode)
	if a.SourceZone == "pod" && node != "" {
		node = "a pod on " + node
	}
	return parts(Printable(a.SourceIP, maxShort), labelled("zone", a.SourceZone), part(a.SourceCountry), part(a.SourceNetwork), node)
}

// credential says who requested the token that was used; empty if that is not known.
func credential(a *schemas.Alert) string {
	if a.MintedBy == "" {
		return ""
	}
	text := "token requested by " + byWhom(a, a.MintedBy)
	if when := before(a.MintedAt, lastTime(a)); when != "" {
		text += " " + when
	}
	return Printable(text, maxLine)
}

// granted says since when the grant of an alert is there, by whom it was made and how many others allow the same.
func granted(a *schemas.Alert) string {
	var b strings.Builder
	made := before(a.GrantSince, lastTime(a))
	switch {
	case made != "" && a.GrantAuthor != "":
		fmt.Fprintf(&b, ", made %s by %s", made, byWhom(a, a.GrantAuthor))
	case made != "":
		b.WriteString(", made " + made)
	case a.GrantAuthor != "":
		b.WriteString(", made by " + byWhom(a, a.GrantAuthor))
	}
	if others := max(1, a.Grants) - 1; a.Grant != "" && others > 0 {
		fmt.Fprintf(&b, "; %d more grant%s it", others, plural(others, "s", ""))
	}
	return b.String()
}

// byWhom names an actor, and says so if it is the one that the alert is about.
func byWhom(a *schemas.Alert, actor string) string {
	if actor == a.Actor {
		return "the actor itself"
	}
	return part(actor)
}

// plural returns one for 1 and many for all else.
func plural(n uint64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// lastTime is the time of the event that the fields of an alert are of.
func lastTime(a *schemas.Alert) time.Time {
	if a.LastTime.IsZero() {
		return a.Time
	}
	return a.LastTime
}

// before says how long before an event something was; empty if that is not known, or was not before.
func before(at, event time.Time) string {
	if at.IsZero() || event.IsZero() || at.After(event) {
		return ""
	}
	d := event.Sub(at)
	for _, unit := range []struct {
		below, size time.Duration
		name        string
	}{
		{2 * time.Minute, time.Second, "second"},
		{2 * time.Hour, time.Minute, "minute"},
		{48 * time.Hour, time.Hour, "hour"},
		{90 * 24 * time.Hour, 24 * time.Hour, "day"},
	} {
		if d < unit.below {
			n := uint64(d / unit.size)
			return fmt.Sprintf("%d %s%s before", n, unit.name, plural(n, "", "s"))
		}
	}
	return "on " + at.UTC().Format(time.DateOnly)
}

// rights say what else the user may do whose rights counted; empty if that is not known.
func rights(a *schemas.Alert) string {
	var all []string
	if a.ClusterAdmin == schemas.True {
		all = append(all, "everything in the cluster")
	} else {
		all = dangers(a.Dangerous)
	}
	if a.Breadth > 0 {
		all = append(all, fmt.Sprintf("breadth %d of 100", a.Breadth))
	}
	if len(all) > 0 && a.RightsComplete == schemas.False {
		all = append(all, "perhaps more: not all roles and bindings are known")
	}
	text := strings.Join(all, "; ")
	if text != "" && a.Impersonated != "" {
		text = "as " + part(a.Impersonated) + ": " + text
		if own := dangers(a.CallerDangerous); len(own) > 0 {
			text += "; the caller itself: " + strings.Join(own, "; ")
		}
	}
	return Printable(text, maxText)
}

// dangers puts dangerous permissions into words, the worst first.
func dangers(ids []string) []string {
	var all []string
	for i, id := range ids {
		if i == maxRights {
			return append(all, fmt.Sprintf("%d more", len(ids)-maxRights))
		}
		if d, ok := schemas.DangerOf(id); ok {
			all = append(all, fmt.Sprintf("%s (%s)", d.Why, d.Severity))
		} else {
			all = append(all, part(id))
		}
	}
	return all
}

// warnings are what is wrong, whatever the rule is about.
func warnings(a *schemas.Alert) (all []string) {
	if a.Active == schemas.False {
		all = append(all, part(cmp.Or(a.DisplayName, a.Actor, a.User))+" has left or is disabled, says the identity source")
	}
	if a.OffNode == schemas.True {
		text := "The token is bound to a node and was used from somewhere else"
		if a.Node != "" {
			text = "The token is bound to node " + part(a.Node) + " and was used from somewhere else"
		}
		all = append(all, text)
	}
	if a.ImpersonationAllowed == schemas.False {
		all = append(all, "No grant is known that allows the caller to act as "+cmp.Or(part(a.Impersonated), "somebody else"))
	}
	if a.GrantAgreement == "disagree" {
		all = append(all, "The API server's reason is not what the roles and bindings of that time say: the event was altered, or what is known of them is wrong")
	}
	for i := range all {
		all[i] = Printable(all[i], maxLine)
	}
	return all
}
