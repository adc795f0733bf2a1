package notify

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// SlackConfig says where alerts are posted. Without a webhook URL and a bot token nothing
// is posted.
type SlackConfig struct {
	WebhookURL conf.Secret   `mapstructure:"webhook_url" doc:"incoming webhook to post to; not together with bot_token"`
	BotToken   conf.Secret   `mapstructure:"bot_token" doc:"token of a bot with the scope chat:write; needs channel"`
	Channel    string        `mapstructure:"channel" doc:"id or name of the channel to post to with the bot token; the bot must be a member"`
	APIURL     string        `mapstructure:"api_url" doc:"base URL of Slack's Web API, for a proxy"`
	Interval   time.Duration `mapstructure:"interval" doc:"shortest time between two messages; Slack allows about one a second per channel"`
	Timeout    time.Duration `mapstructure:"timeout" doc:"longest wait for Slack to answer one message"`
	Template   string        `mapstructure:"template_file" doc:"file with a Go text/template that renders the body of a message in Slack's markup; empty for the usual one"`
}

// DefaultSlackConfig posts nowhere, at the pace that Slack allows.
func DefaultSlackConfig() SlackConfig {
	return SlackConfig{APIURL: "https://slack.com/api/", Interval: time.Second, Timeout: 10 * time.Second}
}

// Enabled reports whether c names something to post to.
func (c SlackConfig) Enabled() bool { return c.WebhookURL != "" || c.BotToken != "" }

// Validate reports every fault at once.
func (c SlackConfig) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.WebhookURL != "" && c.BotToken != "" {
		fault("webhook_url: must not be set together with bot_token: one of them says where to post")
	}
	// The URL is a secret, so no message may repeat it.
	if c.WebhookURL != "" && !isHTTP(c.WebhookURL.Reveal()) {
		fault("webhook_url: must be a URL with http or https and a host")
	}
	if c.BotToken != "" && c.Channel == "" {
		fault("channel: is needed with bot_token")
	}
	if c.BotToken == "" && c.Channel != "" {
		fault("channel: has no effect without bot_token: an incoming webhook has its own channel")
	}
	if !isHTTP(c.APIURL) {
		fault("api_url: must be a URL with http or https and a host, not %q", c.APIURL)
	}
	if c.Interval < 0 {
		fault("interval: must not be negative, is %s", c.Interval)
	}
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		fault("timeout: must be above 0 and at most 1m, is %s", c.Timeout)
	}
	return errors.Join(errs...)
}

func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// Config says who is told about alerts, when and how.
type Config struct {
	Group          string        `mapstructure:"group" doc:"Kafka consumer group of the notifier; one instance of it posts, the others stand by"`
	Backlog        int           `mapstructure:"backlog" doc:"groups of alerts that may wait in memory to be posted, the most severe first; beyond that alerts wait in Kafka"`
	SessionTimeout time.Duration `mapstructure:"session_timeout" doc:"after this time without a heartbeat of the instance that posts another one takes over"`
	RetryMin       time.Duration `mapstructure:"retry_min" doc:"pause after the first failed attempt; it doubles with each"`
	RetryMax       time.Duration `mapstructure:"retry_max" doc:"longest pause between attempts, also while a person must act (revoked token, deleted channel)"`
	MaxAge         time.Duration `mapstructure:"max_age" doc:"alerts raised longer ago are recorded as expired and not posted, so that a channel connected late is not flooded; 0 posts all, however long Slack was away"`
	Remember       time.Duration `mapstructure:"remember" doc:"how long an alert is not counted again and a group not posted anew; at least the retention of the alerts topic"`
	RememberMax    int           `mapstructure:"remember_max" doc:"most alerts that are remembered, the latest ones; about 100 bytes each"`
	GroupsMax      int           `mapstructure:"groups_max" doc:"most groups that are remembered, the latest ones; about 1 KiB each"`
	WholeMax       int           `mapstructure:"whole_max" doc:"most groups whose alert is kept whole, so that their message can be changed; about 4 KiB each"`

	Quiet          time.Duration `mapstructure:"quiet" doc:"after this time without an alert, by the time of the events, the next one of a group is news: a reply in the thread of its message"`
	UpdateInterval time.Duration `mapstructure:"update_interval" doc:"shortest time between two changes of one message"`
	RepeatInterval time.Duration `mapstructure:"repeat_interval" doc:"a group that goes on for so long is posted again; where messages cannot be changed or answered (incoming webhooks) also the shortest time between any two posts of a group"`
	DigestAbove    int           `mapstructure:"digest_above" doc:"when more groups than this wait for a channel, one message tells of most of them; 0 for never"`
	DigestSingle   int           `mapstructure:"digest_single" doc:"groups, the most severe ones, that are posted by themselves for each digest"`
	DigestInterval time.Duration `mapstructure:"digest_interval" doc:"shortest time between two digests"`

	Receivers []ReceiverConfig `mapstructure:"receivers" doc:"who can be told, besides the section alert.slack, whose name is default"`
	Routes    []RouteConfig    `mapstructure:"routes" doc:"who is told of what: the first route that matches, and those after it if it says continue; what none matches goes to default or, without the section alert.slack, to all receivers"`

	API APIConfig `mapstructure:"api" doc:"silences and acknowledgements by HTTP and by Slack's buttons"`
}

// DefaultConfig remembers for as long as audit.alerts.v1 keeps alerts.
func DefaultConfig() Config {
	return Config{
		Group: "auditmill-notify", SessionTimeout: 10 * time.Second, Backlog: 20_000, RetryMin: time.Second, RetryMax: time.Minute,
		Remember: 31 * 24 * time.Hour, RememberMax: 500_000, GroupsMax: 100_000, WholeMax: 10_000,
		Quiet: 10 * time.Minute, UpdateInterval: 5 * time.Second, RepeatInterval: 4 * time.Hour,
		DigestAbove: 20, DigestSingle: 5, DigestInterval: time.Minute,
	}
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Group == "" {
		fault("group: must not be empty")
	}
	if c.SessionTimeout < 6*time.Second || c.SessionTimeout > 5*time.Minute {
		fault("session_timeout: must be from 6s to 5m, the limits of Kafka, is %s", c.SessionTimeout)
	}
	if c.RetryMin <= 0 || c.RetryMax < c.RetryMin {
		fault("retry_min, retry_max: must be above 0 and in order, are %s and %s", c.RetryMin, c.RetryMax)
	}
	if c.MaxAge < 0 {
		fault("max_age: must not be negative, is %s", c.MaxAge)
	}
	if c.Remember < time.Hour {
		fault("remember: must be at least 1h, is %s: a shorter memory posts alerts twice", c.Remember)
	}
	errs = append(errs, c.validateGroups()...)
	errs = append(errs, c.validateRouting()...)
	return errors.Join(append(errs, conf.Join("api", c.API.Validate()))...)
}

func (c Config) validateGroups() (errs []error) {
	for _, n := range []struct {
		key         string
		value       int
		least, most int
	}{
		{"backlog", c.Backlog, 1, 100_000},
		{"remember_max", c.RememberMax, 1000, 100_000_000},
		{"groups_max", c.GroupsMax, 1000, 10_000_000},
		{"whole_max", c.WholeMax, 100, 1_000_000},
		{"digest_above", c.DigestAbove, 0, 100_000},
		{"digest_single", c.DigestSingle, 0, 1000},
	} {
		if n.value < n.least || n.value > n.most {
			errs = append(errs, fmt.Errorf("%s: must be from %d to %d, is %d", n.key, n.least, n.most, n.value))
		}
	}
	for _, d := range []struct {
		key         string
		value       time.Duration
		least, most time.Duration
	}{
		{"quiet", c.Quiet, time.Second, 7 * 24 * time.Hour},
		{"update_interval", c.UpdateInterval, time.Second, time.Hour},
		{"repeat_interval", c.RepeatInterval, time.Minute, 31 * 24 * time.Hour},
		{"digest_interval", c.DigestInterval, time.Second, 24 * time.Hour},
	} {
		if d.value < d.least || d.value > d.most {
			errs = append(errs, fmt.Errorf("%s: must be from %s to %s, is %s", d.key, d.least, d.most, d.value))
		}
	}
	return errs
}
