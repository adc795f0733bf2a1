package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// Config says which files are read and how.
type Config struct {
	Inputs     []Input `mapstructure:"inputs" doc:"what to read, and whose it is"`
	Checkpoint string  `mapstructure:"checkpoint" doc:"file that remembers how far each file was read; it must survive restarts, and its directory is created"`
	Follow     bool    `mapstructure:"follow" doc:"whether to wait for more at the end; false ends when everything is read"`

	PollInterval time.Duration `mapstructure:"poll_interval" doc:"how often files are looked at; changes that the kernel reports are seen sooner"`
	MaxWait      time.Duration `mapstructure:"max_wait" doc:"how long new lines may gather before they are published together"`
	MaxBatch     conf.Bytes    `mapstructure:"max_batch" doc:"most bytes published at once; a longer line is published alone"`
	MaxLine      conf.Bytes    `mapstructure:"max_line" doc:"longest line; a longer one goes to the dead-letter topic in parts; at least 16MiB"`
	IgnoreOlder  time.Duration `mapstructure:"ignore_older" doc:"files not modified for so long and never read before are left alone; 0 for none"`
}

// Input is one log, or one place with logs, of one cluster.
type Input struct {
	Path    string `mapstructure:"path" doc:"a file (its rotated files belong to it), a directory (all files in it whose names do not begin with a dot) or a pattern like /var/log/*/audit.log"`
	Cluster string `mapstructure:"cluster" doc:"name of the cluster that writes the files"`
}

// partSize is the length of the parts of a line above max_line: what one record of the
// dead-letter topic holds.
const partSize = 8 << 20

// DefaultConfig reads nothing, because it has no inputs.
func DefaultConfig() Config {
	return Config{
		Checkpoint:   "/var/lib/auditmill/files.json",
		Follow:       true,
		PollInterval: time.Second,
		MaxWait:      50 * time.Millisecond,
		MaxBatch:     4 * conf.MiB,
		MaxLine:      32 * conf.MiB,
	}
}

// Enabled reports whether there is anything to read.
func (c Config) Enabled() bool { return len(c.Inputs) > 0 }

// Validate reports every fault by its key. It does not look at the files: one that is
// missing now may come later.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	paths := map[string]int{}
	for i, in := range c.Inputs {
		check(in.Cluster != "", "inputs[%d].cluster: want the name of the cluster that writes the files", i)
		if in.Path == "" {
			check(false, "inputs[%d].path: want a file, a directory or a pattern", i)
			continue
		}
		_, err := filepath.Match(in.Path, "")
		check(err == nil, "inputs[%d].path: %q is no pattern: a bracket is not closed", i, in.Path)
		first, twice := paths[filepath.Clean(in.Path)]
		check(!twice, "inputs[%d].path: %q is inputs[%d] already", i, in.Path, first)
		paths[filepath.Clean(in.Path)] = i
	}
	check(c.Checkpoint != "" || !c.Enabled(), "checkpoint: want the path of a file")
	check(c.PollInterval >= 10*time.Millisecond && c.PollInterval <= time.Minute,
		"poll_interval: want 10ms to 1m, got %s", c.PollInterval)
	check(c.MaxWait >= 0 && c.MaxWait <= c.PollInterval,
		"max_wait: want 0 to poll_interval (%s), got %s", c.PollInterval, c.MaxWait)
	check(c.MaxLine >= 16*conf.MiB && c.MaxLine <= conf.GiB, "max_line: want 16MiB to 1GiB, got %s", c.MaxLine)
	check(c.MaxBatch >= 64*conf.KiB && c.MaxBatch <= c.MaxLine,
		"max_batch: want 64KiB to max_line (%s), got %s", c.MaxLine, c.MaxBatch)
	check(c.IgnoreOlder >= 0, "ignore_older: want 0 or more, got %s", c.IgnoreOlder)
	return errors.Join(errs...)
}
