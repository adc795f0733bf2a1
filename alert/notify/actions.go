package notify

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"github.com/auditmill/auditmill/internal/conf"
)

// The buttons of a message. Their value is the id of the group.
const (
	actionAcknowledge = "auditmill_acknowledge"
	actionSilenceHour = "auditmill_silence_1h"
	actionSilenceDay  = "auditmill_silence_24h"

	// AcknowledgedFor is how long an acknowledgement holds unless somebody says otherwise.
	AcknowledgedFor = 24 * time.Hour
)

// actionBlock are the buttons below the message of a group.
func actionBlock(group string) slack.Block {
	button := func(id, text string) *slack.ButtonBlockElement {
		return slack.NewButtonBlockElement(id, group, plainText(text, slackMaxHeader))
	}
	return slack.NewActionBlock("auditmill", button(actionAcknowledge, "Acknowledge"),
		button(actionSilenceHour, "Silence 1 h"), button(actionSilenceDay, "Silence 24 h"))
}

// maxSkew is how old a request of Slack may be, and how long it is remembered.
const maxSkew = 5 * time.Minute

// replays remembers the signatures of the requests of the last minutes.
type replays struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// first reports whether a signature was not seen before.
func (r *replays) first(signature string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, at := range r.seen {
		if now.Sub(at) > 2*maxSkew {
			delete(r.seen, s)
		}
	}
	if _, ok := r.seen[signature]; ok {
		return false
	}
	if r.seen == nil {
		r.seen = map[string]time.Time{}
	}
	r.seen[signature] = now
	return true
}

// verifySlack checks Slack's signature of a request, version v0.
// See https://docs.slack.dev/authentication/verifying-requests-from-slack.
func verifySlack(secret conf.Secret, header http.Header, body []byte, now time.Time) error {
	at := header.Get("X-Slack-Request-Timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return errors.New("the header X-Slack-Request-Timestamp is missing or no number")
	}
	if d := now.Sub(time.Unix(seconds, 0)); d > maxSkew || d < -maxSkew {
		return fmt.Errorf("the request is %s old, at most %s are allowed: check the clocks", d, maxSkew)
	}
	want := signature(secret, "v0", at, body)
	if subtle.ConstantTimeCompare([]byte(want), []byte(header.Get("X-Slack-Signature"))) != 1 {
		return errors.New("the signature is not that of alert.notify.api.signing_secret")
	}
	return nil
}

// interaction is what we read of a payload of type block_actions.
type interaction struct {
	Type string `json:"type"`
	User struct {
		ID       string `json:"id"`
		Username string `json:"username"`
		Name     string `json:"name"`
	} `json:"user"`
	Actions []struct {
		ID    string `json:"action_id"`
		Value string `json:"value"`
	} `json:"actions"`
}

var groupIDPattern = regexp.MustCompile(`^[0-9A-Za-z_.:-]{1,128}$`)

func decodeInteraction(body []byte) (*interaction, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("the body is no form")
	}
	var p interaction
	if err := json.Unmarshal([]byte(form.Get("payload")), &p); err != nil {
		return nil, fmt.Errorf("decoding the payload: %w", err)
	}
	if p.User.ID == "" {
		return nil, errors.New("the payload names no user")
	}
	return &p, nil
}

// slackAction does what a button says. Slack shows an error to the person unless the answer
// is 200.
func (a *api) slackAction(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body must have at most %d bytes", maxAPIBody))
		return
	}
	now := time.Now()
	if err := verifySlack(a.cfg.SigningSecret, r.Header, body, now); err != nil {
		a.log.Warn("request to Slack's endpoint refused", "err", err)
		a.fail(w, http.StatusUnauthorized, err)
		return
	}
	p, err := decodeInteraction(body)
	if err != nil {
		a.fail(w, http.StatusBadRequest, err)
		return
	}
	if p.Type != "block_actions" || !a.replays.first(r.Header.Get("X-Slack-Signature"), now) {
		w.WriteHeader(http.StatusOK)
		return
	}
	for _, action := range p.Actions {
		if !slices.Contains([]string{actionAcknowledge, actionSilenceHour, actionSilenceDay}, action.ID) {
			continue
		}
		if !groupIDPattern.MatchString(action.Value) {
			a.fail(w, http.StatusBadRequest, errors.New("the value of the button is no id of a group"))
			return
		}
		if err := a.press(r, p, action.ID, action.Value, now); err != nil {
			a.failed(w, err, false)
			return
		}
	}
	w.WriteHeader(http.StatusOK)
}

func (a *api) press(r *http.Request, p *interaction, action, group string, now time.Time) error {
	name := p.User.Username
	if name == "" {
		name = p.User.Name
	}
	s := Silence{
		Kind: KindSilence, Match: SilenceMatch{Group: group}, From: now, Comment: "by a button in Slack",
		Author: cut(fmt.Sprintf("@%s (Slack user %s)", name, p.User.ID), maxShort),
	}
	switch action {
	case actionAcknowledge:
		s.Kind, s.Comment, s.Until = KindAcknowledgement, "", now.Add(AcknowledgedFor)
	case actionSilenceHour:
		s.Until = now.Add(time.Hour)
	default:
		s.Until = now.Add(24 * time.Hour)
	}
	_, err := a.silences.Add(r.Context(), s, "slack")
	return err
}
