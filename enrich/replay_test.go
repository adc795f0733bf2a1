package enrich

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Events that are read again after roles and bindings have changed give the rows that they gave in the end when they were new:
// what is so now is not what was so then.
func TestReplay(t *testing.T) {
	var events []*kgo.Record
	for i := range 60 {
		at := moment.Add(time.Duration(2*i) * time.Second)
		if i == 20 {
			events = append(events, granting(t, "prod", at, podsBinding))
			continue
		}
		events = append(events, reading(t, "prod", strconv.Itoa(i), at))
	}
	// After all events, the role allows something else.
	const day = 24 * time.Hour
	changed := strings.NewReplacer(`"resourceVersion":"5"`, `"resourceVersion":"9"`, `"pods"]`, `"secrets"]`).Replace(podsRole)
	right := func(all map[string]*final) bool {
		agree := 0
		for _, f := range all {
			if f.text["user"] == "ann" && f.text["grant_agreement"] == "agree" {
				agree++
			}
		}
		return len(all) == len(events) && agree == 39
	}

	live := newBed(t)
	cfg := live.config("live")
	cfg.CorrectInterval = 0
	stop := live.start(cfg)
	live.produce(events[:30]...)
	live.finals(func(all map[string]*final) bool { return len(all) == 30 })
	live.tell("prod", known(t, moment.Add(-time.Hour), podsRole)...) // late
	live.produce(events[30:]...)
	live.finals(right)
	live.tell("prod", known(t, moment.Add(day), changed, podsBinding)...)

	again := newBed(t)
	again.tell("prod", known(t, moment.Add(-time.Hour), podsRole)...)
	again.tell("prod", known(t, moment.Add(day), changed, podsBinding)...)
	again.produce(events...)
	cfg.Instance = "again"
	stopAgain := again.start(cfg)
	// The last corrections may still be on their way.
	var wrong []string
	for deadline := time.Now().Add(time.Minute); ; {
		wrong = nil
		want, got := live.finals(right), again.finals(right)
		for id, f := range want {
			if columns := difference(f.text, got[id].text); len(columns) > 0 {
				wrong = append(wrong, fmt.Sprintf("event %s at %v: %v differ", id, f.text["event_time"], columns))
			}
		}
		if len(wrong) == 0 || time.Now().After(deadline) {
			break
		}
	}
	if len(wrong) > 0 {
		t.Error(strings.Join(wrong, "\n"))
	}
	if err := errors.Join(stop(), stopAgain()); err != nil {
		t.Error(err)
	}
}
