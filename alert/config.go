package alert

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/correlate"
	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/schemas"
)

// Config is the section alert of the configuration.
type Config struct {
	Group          string             `mapstructure:"group" doc:"consumer group of audit.enriched.v1; instances with the same group share the work"`
	SessionTimeout time.Duration      `mapstructure:"session_timeout" doc:"after this time without a heartbeat Kafka gives the partitions of an instance to the others"`
	MaxPollRecords int                `mapstructure:"max_poll_records" doc:"most records (batches of events) evaluated before their offsets are committed"`
	Rules          RulesConfig        `mapstructure:"rules" doc:"which rules are evaluated"`
	Correlate      correlate.Config   `mapstructure:"correlate" doc:"how the matches of several events are put together"`
	Slack          notify.SlackConfig `mapstructure:"slack" doc:"where alerts are posted; without webhook_url and bot_token nowhere"`
	Notify         notify.Config      `mapstructure:"notify" doc:"how alerts are taken from Kafka to be posted"`
}

// RulesConfig says which rules are evaluated.
type RulesConfig struct {
	Embedded    bool     `mapstructure:"embedded" doc:"whether to use the rules that come with auditmill"`
	Directories []string `mapstructure:"directories" doc:"directories with more rules: *.yml and *.yaml at any depth"`
	Lists       []string `mapstructure:"lists" doc:"files of named lists, which replace or extend those that come with auditmill; so do files lists.yml and *.lists.yml in the directories"`
	Disable     []string `mapstructure:"disable" doc:"ids of rules that are left out"`
	AuditLevel  string   `mapstructure:"audit_level" doc:"highest level that the clusters record: Metadata, Request or RequestResponse; rules that need more are listed as blind"`
	Absent      []string `mapstructure:"absent" doc:"columns that the sources of this deployment never fill, such as groups in a cloud's log; rules that need them are listed as blind"`
	Matching    string   `mapstructure:"matching" doc:"how many rules may match an event: all, or as in Falco the first in the order of the rules"`
	// FalcoCompatible is for those who compare.
	FalcoCompatible bool          `mapstructure:"falco_compatible" doc:"keep the known bugs of Falco's field extraction"`
	ReloadInterval  time.Duration `mapstructure:"reload_interval" doc:"how often the rule files are looked at for changes; 0 is on SIGHUP only"`
}

// DefaultConfig evaluates the rules that come with auditmill and posts nowhere.
func DefaultConfig() Config {
	return Config{
		Group: "auditmill-alert", SessionTimeout: 10 * time.Second, MaxPollRecords: 64, Rules: RulesConfig{Embedded: true, AuditLevel: "RequestResponse", Matching: "all", ReloadInterval: 10 * time.Second},
		Correlate: correlate.DefaultConfig(), Slack: notify.DefaultSlackConfig(), Notify: notify.DefaultConfig(),
	}
}

// Validate reports every fault at once, but does not read the rules: New does.
func (c Config) Validate() error {
	var errs []error
	if c.Group == "" {
		errs = append(errs, errors.New("group: must not be empty"))
	}
	if c.Group != "" && c.Group == c.Notify.Group {
		errs = append(errs, fmt.Errorf("notify.group: must differ from group, both are %q", c.Group))
	}
	if c.SessionTimeout < 6*time.Second || c.SessionTimeout > 5*time.Minute {
		errs = append(errs, fmt.Errorf("session_timeout: must be from 6s to 5m, the limits of Kafka, is %s", c.SessionTimeout))
	}
	if c.MaxPollRecords < 1 || c.MaxPollRecords > 10_000 {
		errs = append(errs, fmt.Errorf("max_poll_records: must be from 1 to 10000, is %d", c.MaxPollRecords))
	}
	return errors.Join(append(errs, conf.Join("rules", c.Rules.Validate()),
		conf.Join("correlate", c.Correlate.Validate()), conf.Join("slack", c.Slack.Validate()), conf.Join("notify", c.Notify.Validate()))...)
}

// Validate reports every fault at once.
func (c RulesConfig) Validate() error {
	var errs []error
	if !c.Embedded && len(c.Directories) == 0 {
		errs = append(errs, errors.New("directories: must not be empty without embedded: there would be no rules"))
	}
	for i, dir := range c.Directories {
		if dir == "" || slices.Contains(c.Directories[:i], dir) {
			errs = append(errs, fmt.Errorf("directories[%d]: %q is empty or there twice", i, dir))
		}
	}
	if !slices.Contains(ir.AuditLevels(), c.AuditLevel) {
		errs = append(errs, fmt.Errorf("audit_level: must be %s, is %q", strings.Join(ir.AuditLevels(), ", "), c.AuditLevel))
	}
	for i, name := range c.Absent {
		if !slices.ContainsFunc(schemas.Columns(), func(column schemas.Column) bool { return column.Name == name }) {
			errs = append(errs, fmt.Errorf("absent[%d]: there is no column %q; docs/fields.md has them", i, name))
		}
	}
	if c.Matching != "all" && c.Matching != "first" {
		errs = append(errs, fmt.Errorf("matching: must be all or first, is %q", c.Matching))
	}
	if i := c.ReloadInterval; i != 0 && i < time.Second {
		errs = append(errs, fmt.Errorf("reload_interval: must be 0 or at least 1s, is %s", i))
	}
	return errors.Join(errs...)
}
