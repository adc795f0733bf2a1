package notify

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// The types of receivers.
const (
	typeSlack        = "slack"
	typeWebhook      = "webhook"
	typePagerDuty    = "pagerduty"
	typeAlertmanager = "alertmanager"
)

// ReceiverConfig says where the messages of routes that name it go. What a type does not use
// must be empty.
type ReceiverConfig struct {
	Name        string        `mapstructure:"name" doc:"name for routes, letters, digits, - and _; default is that of the section alert.slack"`
	Type        string        `mapstructure:"type" doc:"slack, webhook (JSON, signed), pagerduty (Events API v2) or alertmanager (API v2)"`
	URL         conf.Secret   `mapstructure:"url" doc:"slack: incoming webhook; webhook: where to post; alertmanager: its base URL; pagerduty: another address of the Events API"`
	BotToken    conf.Secret   `mapstructure:"bot_token" doc:"slack: token of a bot with the scope chat:write, instead of url; needs channel"`
	Channel     string        `mapstructure:"channel" doc:"slack: id or name of the channel for bot_token"`
	APIURL      string        `mapstructure:"api_url" doc:"slack: base URL of the Web API, for a proxy; empty for https://slack.com/api/"`
	Secret      conf.Secret   `mapstructure:"secret" doc:"webhook: key of the HMAC-SHA256 in the header X-Auditmill-Signature, at least 16 bytes"`
	RoutingKey  conf.Secret   `mapstructure:"routing_key" doc:"pagerduty: integration key of the service"`
	BearerToken conf.Secret   `mapstructure:"bearer_token" doc:"webhook, alertmanager: sent as Authorization: Bearer; empty for none"`
	Updates     bool          `mapstructure:"updates" doc:"webhook: post changes of a group too, every update_interval, instead of once per repeat_interval"`
	Interval    time.Duration `mapstructure:"interval" doc:"shortest time between two messages; 0 for 1s with slack and none with others"`
	Timeout     time.Duration `mapstructure:"timeout" doc:"longest wait for an answer; 0 for 10s"`
	GiveUp      time.Duration `mapstructure:"give_up" doc:"a message that could not be delivered for so long goes to the dead-letter topic, and the other receivers are told; 0 for never with slack and 24h with others"`
	Template    string        `mapstructure:"template_file" doc:"file with a Go text/template; slack: the body in Slack's markup; webhook: the whole JSON, values with {{json .name}}; pagerduty: the summary; alertmanager: the annotation summary"`
}

var receiverName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// validate reports every fault at once.
func (c ReceiverConfig) validate() (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !receiverName.MatchString(c.Name) || c.Name == DefaultReceiver {
		fault("name: must be 1 to 64 letters, digits, - and _, and not %q, is %q", DefaultReceiver, c.Name)
	}
	uses := map[string][]string{
		typeSlack:        {"url", "bot_token", "channel", "api_url"},
		typeWebhook:      {"url", "secret", "bearer_token", "updates"},
		typePagerDuty:    {"url", "routing_key"},
		typeAlertmanager: {"url", "bearer_token"},
	}[c.Type]
	if uses == nil {
		fault("type: must be slack, webhook, pagerduty or alertmanager, is %q", c.Type)
		return errs
	}
	for _, f := range []struct {
		key string
		set bool
	}{
		{"url", c.URL != ""},
		{"bot_token", c.BotToken != ""},
		{"channel", c.Channel != ""},
		{"api_url", c.APIURL != ""},
		{"secret", c.Secret != ""},
		{"routing_key", c.RoutingKey != ""},
		{"bearer_token", c.BearerToken != ""},
		{"updates", c.Updates},
	} {
		if f.set && !slices.Contains(uses, f.key) {
			fault("%s: has no effect with type %s: it uses %s", f.key, c.Type, strings.Join(uses, ", "))
		}
	}
	if c.Interval < 0 {
		fault("interval: must not be negative, is %s", c.Interval)
	}
	if c.Timeout < 0 || c.Timeout > time.Minute {
		fault("timeout: must be at most 1m, is %s", c.Timeout)
	}
	if c.GiveUp < 0 {
		fault("give_up: must not be negative, is %s", c.GiveUp)
	}
	return append(errs, c.validateType()...)
}

func (c ReceiverConfig) validateType() (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	// URLs and keys are secrets, so no message may repeat them.
	if c.Type == typeSlack {
		if c.slack().Enabled() {
			for _, err := range unjoin(c.slack().Validate()) {
				fault("%s", strings.Replace(err.Error(), "webhook_url", "url", 1))
			}
		} else {
			fault("url: is needed, or bot_token and channel")
		}
		return errs
	}
	if c.URL != "" && !isHTTP(c.URL.Reveal()) {
		fault("url: must be a URL with http or https and a host")
	}
	switch {
	case c.Type == typePagerDuty && c.RoutingKey == "":
		fault("routing_key: is needed with type pagerduty")
	case c.Type != typePagerDuty && c.URL == "":
		fault("url: is needed with type %s", c.Type)
	}
	if c.Type == typeWebhook && len(c.Secret) < 16 {
		fault("secret: must have at least 16 bytes: openssl rand -hex 32")
	}
	return errs
}

// unjoin returns what errors.Join joined.
func unjoin(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		return joined.Unwrap()
	}
	return []error{err}
}

func (c ReceiverConfig) slack() SlackConfig {
	s := DefaultSlackConfig()
	s.WebhookURL, s.BotToken, s.Channel = c.URL, c.BotToken, c.Channel
	s.APIURL = cmp.Or(c.APIURL, s.APIURL)
	s.Template = c.Template
	return s
}

// receiver makes what c describes.
func (c ReceiverConfig) receiver(n Config, client *http.Client) (receiver, error) {
	r := receiver{
		name: c.Name, interval: c.Interval, timeout: cmp.Or(c.Timeout, DefaultSlackConfig().Timeout), giveUp: c.GiveUp,
	}
	if c.Type == typeSlack {
		r.interval = cmp.Or(r.interval, time.Second)
		sink, err := NewSlack(c.slack(), client)
		r.sink = sink
		return r, err
	}
	r.giveUp = cmp.Or(r.giveUp, 24*time.Hour)
	t, err := parseTemplate(c.Template, c.Type == typeWebhook)
	if err != nil {
		return r, err
	}
	e := endpoint{url: c.URL, token: c.BearerToken, client: bounded(client)}
	switch c.Type {
	case typeWebhook:
		r.sink = &webhookSink{endpoint: e, secret: c.Secret, updates: c.Updates, name: c.Name, template: t}
	case typePagerDuty:
		if e.url == "" {
			e.url = "https://events.pagerduty.com/v2/enqueue"
		}
		r.sink = &pagerDuty{endpoint: e, key: c.RoutingKey, template: t}
	case typeAlertmanager:
		e.url = conf.Secret(strings.TrimSuffix(e.url.Reveal(), "/") + "/api/v2/alerts")
		r.sink = &alertmanager{endpoint: e, quiet: n.Quiet, template: t}
	}
	return r, nil
}
