package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/pipeline"
	"github.com/auditmill/auditmill/watch"
)

func newWatch(o *options) *cobra.Command {
	cmd := serviceCommand(o, pipeline.Watch, "Watch clusters and tell enrich what the audit stream did not",
		`List and watch roles, bindings, service accounts, namespaces, nodes, pods and their owners of the clusters in watch.clusters,
compare them with audit.context.v1, and write what differs. The audit stream alone knows only what has changed since it
began; with a watch, enrich knows all grants, and what a lost audit event changed is healed. It needs get on nothing and
list and watch on those kinds: deploy/kubernetes/watch-rbac.yaml has the ClusterRole. Secrets are never read.

Stop and start it as you like: it lists again and writes only differences. One that was away for long writes from when on
it knows, and that it does not know what was true in between. Two instances for the same cluster do no harm.`,
		`  auditmill watch --config auditmill.yaml

  # auditmill.yaml
  watch:
    clusters:
      - {name: prod, kubeconfig: /etc/auditmill/kubeconfig, context: prod}
      - {name: here, in_cluster: true}`)
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if errors.Is(err, watch.ErrNoClusters) {
			return &usageError{err}
		}
		return err
	}
	return cmd
}
