package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/obs"
	"github.com/auditmill/auditmill/pipeline"
)

// fileVariable names the configuration file where --config does not.
const fileVariable = "AUDITMILL_CONFIG"

// load reads the configuration and checks the given sections; all without any.
func (o *options) load(sections ...string) (pipeline.Config, error) {
	return conf.Load(pipeline.DefaultConfig(), conf.Options{
		File: o.file, Env: os.Environ(), OtherEnv: []string{fileVariable}, Set: o.set, Sections: sections,
	})
}

func newConfig(o *options) *cobra.Command {
	var reference, example bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in effect, secrets masked",
		Long: `Print the configuration that a service would run with: defaults, file, environment and --set together.
Every fault is reported at once with its key; the exit status is 2 then.`,
		Example: `  auditmill config --config auditmill.yaml
  AUDITMILL_KAFKA_BROKERS=kafka:9092 auditmill config
  auditmill config --example > auditmill.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			switch {
			case reference:
				return conf.Reference(out, pipeline.DefaultConfig())
			case example:
				return conf.Example(out, pipeline.DefaultConfig())
			}
			cfg, err := o.load()
			if err != nil {
				return err
			}
			return conf.Print(out, cfg)
		},
	}
	cmd.Flags().BoolVar(&reference, "reference", false, "print the reference of all keys in Markdown")
	cmd.Flags().BoolVar(&example, "example", false, "print the defaults with every key explained")
	cmd.MarkFlagsMutuallyExclusive("reference", "example")
	return cmd
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this build",
		Example: "  auditmill version",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), obs.Version())
			return err
		},
	}
}
