package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/slack-go/slack"

	"github.com/auditmill/auditmill/internal/conf"
)

// NewSlack returns the Sink that cfg names: the incoming webhook, or a channel by bot token.
// client is nil for the default one.
func NewSlack(cfg SlackConfig, client *http.Client) (Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client = bounded(client)
	t, err := parseTemplate(cfg.Template, false)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.WebhookURL != "":
		return &slackWebhook{url: cfg.WebhookURL, client: client, template: t}, nil
	case cfg.BotToken != "":
		api := slack.New(cfg.BotToken.Reveal(), slack.OptionHTTPClient(client),
			slack.OptionAPIURL(strings.TrimSuffix(cfg.APIURL, "/")+"/"))
		return &slackBot{api: api, channel: cfg.Channel, template: t}, nil
	}
	return nil, errors.New("slack: neither webhook_url nor bot_token is set")
}

func orDefault(t http.RoundTripper) http.RoundTripper {
	if t == nil {
		return http.DefaultTransport
	}
	return t
}

// maxAnswer bounds what is read of an answer: a Slack answer to a message holds the message.
const maxAnswer = 1 << 20

type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		resp.Body = &boundedBody{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

type boundedBody struct {
	io.Reader
	io.Closer
}

// slackWebhook posts to an incoming webhook. slack.PostWebhook is not used because it
// forgets the body of an answer, which says what is wrong.
type slackWebhook struct {
	url      conf.Secret
	client   *http.Client
	template *template.Template
}

func (s *slackWebhook) Name() string { return "slack-webhook" }

// Features are few: what was posted to a webhook cannot be changed.
func (s *slackWebhook) Features() Features { return Features{Digest: true} }

func (s *slackWebhook) Post(ctx context.Context, m *Message, plain bool) (Receipt, error) {
	var err error
	if m.body, err = rendered(s.template, m, plain); err != nil {
		return Receipt{}, err
	}
	off := false
	msg := slack.WebhookMessage{Text: slackFallback(m), UnfurlLinks: &off, UnfurlMedia: &off}
	if plain {
		msg.Text, msg.Parse = slackPlain(m), "none"
	} else {
		msg.Blocks = &slack.Blocks{BlockSet: slackBlocks(m)}
	}
	body, err := json.Marshal(msg)
	if err != nil {
		return Receipt{}, &Error{Class: Refused, Reason: "encoding", Err: fmt.Errorf("encoding a Slack message: %w", err)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.Reveal(), bytes.NewReader(body))
	if err != nil {
		return Receipt{}, &Error{Class: Blocked, Reason: "webhook_url", Err: errors.New("the webhook URL is not a URL")}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return Receipt{}, transportError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusOK {
		// Slack has decided once it sends 200; a body that breaks off changes nothing.
		return Receipt{Channel: "webhook"}, nil
	}
	if err != nil {
		answer = nil
	}
	return Receipt{}, statusError(resp.StatusCode, resp.Header.Get("Retry-After"), strings.TrimSpace(string(answer)))
}

// slackBot posts to a channel with chat.postMessage.
type slackBot struct {
	api      *slack.Client
	channel  string
	template *template.Template
}

func (s *slackBot) Name() string { return "slack-bot" }

func (s *slackBot) Features() Features { return Features{Update: true, Reply: true, Digest: true} }

func (s *slackBot) Post(ctx context.Context, m *Message, plain bool) (Receipt, error) {
	var err error
	if m.body, err = rendered(s.template, m, plain); err != nil {
		return Receipt{}, err
	}
	options := []slack.MsgOption{
		slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl(), slack.MsgOptionParse(false),
	}
	if plain {
		options = append(options, slack.MsgOptionText(slackPlain(m), false))
	} else {
		options = append(options, slack.MsgOptionText(slackFallback(m), false),
			slack.MsgOptionBlocks(slackBlocks(m)...))
	}
	channel, ts := "", ""
	switch {
	case m.Kind == KindUpdate && m.At.TS != "":
		channel, ts, _, err = s.api.UpdateMessageContext(ctx, m.At.Channel, m.At.TS, options...)
	case m.At.TS != "":
		options = append(options, slack.MsgOptionTS(m.At.TS))
		if m.Kind == KindRepeat {
			// Who does not follow the thread is to hear of it too.
			options = append(options, slack.MsgOptionBroadcast())
		}
		channel, ts, err = s.api.PostMessageContext(ctx, m.At.Channel, options...)
	default:
		channel, ts, err = s.api.PostMessageContext(ctx, s.channel, options...)
	}
	if err == nil {
		return Receipt{Channel: channel, TS: ts}, nil
	}
	var limited *slack.RateLimitedError
	var status slack.StatusCodeError
	var answer slack.SlackErrorResponse
	switch {
	case errors.As(err, &limited):
		return Receipt{}, &Error{Class: Transient, Reason: "rate_limited", RetryAfter: limited.RetryAfter, Err: err}
	case errors.As(err, &status):
		return Receipt{}, statusError(status.Code, "", "")
	case errors.As(err, &answer):
		return Receipt{}, answerError(answer.Err)
	}
	return Receipt{}, transportError(err)
}

// transportError is an attempt without an answer, or with one that is no answer.
func transportError(err error) *Error {
	// The text of a url.Error holds the URL, and a webhook URL is a secret.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	e := &Error{Class: Transient, Reason: "connection", Unknown: true, Err: fmt.Errorf("posting: %w", err)}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		e.Reason = "timeout"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		e.Unknown = false
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		e.Reason = "answer"
	}
	return e
}

// statusError is an answer with another status than 200. A webhook says why in its body.
func statusError(status int, retryAfter, reason string) *Error {
	switch {
	case status == http.StatusTooManyRequests:
		return &Error{
			Class: Transient, Reason: "rate_limited", RetryAfter: parseRetryAfter(retryAfter),
			Err: errors.New("slack asks to post less often"),
		}
	case status >= 500 || status == http.StatusRequestTimeout:
		return &Error{
			Class: Transient, Reason: "server_error", RetryAfter: parseRetryAfter(retryAfter), Unknown: true,
			Err: fmt.Errorf("slack answered %d", status),
		}
	}
	if e := answerError(reason); reason != "" && e.Reason != unknownAnswer {
		return e
	}
	e := &Error{
		Class: Blocked, Reason: "status",
		Err: fmt.Errorf("slack answered %d: %q", status, Printable(reason, maxShort)),
	}
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		e.Class = Doubtful
	}
	return e
}

const unknownAnswer = "unknown_answer"

// answerError classifies what Slack calls an error. What is not listed is taken for
// something that a person must look at.
func answerError(code string) *Error {
	e := &Error{Class: Blocked, Reason: unknownAnswer, Err: fmt.Errorf("slack answered %q", Printable(code, maxShort))}
	switch {
	case slices.Contains([]string{
		"invalid_blocks", "invalid_blocks_format", "invalid_payload", "msg_too_long", "msg_blocks_too_long",
		"no_text", "too_many_attachments", "invalid_metadata_format",
	}, code):
		e.Class, e.Reason = Refused, code
	case slices.Contains([]string{
		"ratelimited", "rate_limited", "message_limit_exceeded", "fatal_error", "internal_error",
		"service_unavailable", "request_timeout", "rollup_error",
	}, code):
		e.Class, e.Reason = Transient, code
	case slices.Contains([]string{
		"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "missing_scope",
		"channel_not_found", "not_in_channel", "is_archived", "channel_is_archived", "no_service", "no_active_hooks",
		"no_team", "team_disabled", "action_prohibited", "restricted_action", "invalid_token", "user_not_found",
		"posting_to_general_channel_denied", "access_denied", "ekm_access_denied", "org_login_required",
	}, code):
		e.Reason = code
	case slices.Contains([]string{
		"message_not_found", "thread_not_found", "cant_update_message", "edit_window_closed", "update_failed",
		"cannot_reply_to_message",
	}, code):
		e.Class, e.Reason = Gone, code
	case code == "invalid_arguments":
		e.Class, e.Reason = Doubtful, code
	}
	return e
}

// parseRetryAfter reads whole seconds, the only form Slack uses; 0 if it is none.
func parseRetryAfter(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
