package main

import (
	stdcontext "context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/enrich/directory"
)

// completionWait bounds how long a shell waits for the names of clusters.
const completionWait = 3 * time.Second

// completeCluster offers the names of clusters for a flag.
func completeCluster(cmd *cobra.Command, o *options, flag string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return candidates(cmd, o, "cluster", typed), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag is defined by the caller
	}
}

func completeKind(cmd *cobra.Command, flag string) {
	complete(cmd, flag, candidates(nil, nil, "kind", "")...)
}

// completeArguments offers values for the arguments in their order: cluster, kind, verb, resource, or "" for none.
func completeArguments(o *options, arguments ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(arguments) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return candidates(cmd, o, arguments[len(args)], typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// candidates are the values of an argument that begin with what is typed.
func candidates(cmd *cobra.Command, o *options, argument, typed string) (all []string) {
	switch argument {
	case "cluster":
		all = clusterNames(cmd, o)
	case "kind":
		for _, k := range directory.Kinds() {
			all = append(all, k.String())
		}
	case "verb":
		all = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bind", "escalate", "impersonate", "approve", "sign", "use"}
	case "resource":
		all = []string{
			"pods", "pods/exec", "pods/log", "pods/portforward", "secrets", "configmaps", "serviceaccounts", "serviceaccounts/token", "nodes",
			"nodes/proxy", "namespaces", "deployments.apps", "daemonsets.apps", "clusterroles.rbac.authorization.k8s.io",
			"clusterrolebindings.rbac.authorization.k8s.io", "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
		}
	}
	matching := all[:0]
	for _, value := range all {
		if strings.HasPrefix(value, typed) {
			matching = append(matching, value)
		}
	}
	return matching
}

// clusterNames are the clusters that Kafka knows of; none if it does not answer soon.
func clusterNames(cmd *cobra.Command, o *options) []string {
	cfg, err := o.load("kafka")
	if err != nil {
		return nil
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = stdcontext.Background()
	}
	ctx, cancel := stdcontext.WithTimeout(ctx, completionWait)
	defer cancel()
	quiet := &cobra.Command{}
	quiet.SetErr(io.Discard)
	store, err := liveContext(ctx, quiet, cfg.Kafka)
	if err != nil {
		return nil
	}
	names := store.Clusters()
	for i := range names {
		names[i] = nameOf(names[i])
	}
	return names
}
