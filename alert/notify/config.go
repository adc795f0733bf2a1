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

// Config says how alerts are taken from Kafka and how long is remembered what was posted.
type Config struct {
	Group          string        `mapstructure:"group" doc:"Kafka consumer group of the notifier"`
	Backlog        int           `mapstructure:"backlog" doc:"alerts held in memory in order of severity; the rest wait in Kafka"`
	SessionTimeout time.Duration `mapstructure:"session_timeout" doc:"after this time without a heartbeat Kafka gives the partitions of an instance to the others"`
	RetryMin       time.Duration `mapstructure:"retry_min" doc:"pause after the first failed attempt; it doubles with each"`
	RetryMax       time.Duration `mapstructure:"retry_max" doc:"longest pause between attempts, also while a person must act (revoked token, deleted channel)"`
	MaxAge         time.Duration `mapstructure:"max_age" doc:"alerts raised longer ago are recorded as expired and not posted, so that a channel connected late is not flooded; 0 posts all, however long Slack was away"`
	Remember       time.Duration `mapstructure:"remember" doc:"how long a posted alert is not posted again; at least the retention of the alerts topic"`
	RememberMax    int           `mapstructure:"remember_max" doc:"most posted alerts that are remembered, the latest ones; about 100 bytes each"`
}

// DefaultConfig remembers for as long as audit.alerts.v1 keeps alerts.
func DefaultConfig() Config {
	return Config{
		Group: "auditmill-notify", SessionTimeout: 10 * time.Second, Backlog: 500, RetryMin: time.Second, RetryMax: time.Minute,
		Remember: 31 * 24 * time.Hour, RememberMax: 500_000,
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
	if c.Backlog < 1 || c.Backlog > 100_000 {
		fault("backlog: must be from 1 to 100000, is %d", c.Backlog)
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
	if c.RememberMax < 1000 {
		fault("remember_max: must be at least 1000, is %d", c.RememberMax)
	}
	return errors.Join(errs...)
}
