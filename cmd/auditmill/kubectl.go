package main

import (
	"bytes"
	stdcontext "context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

// kubectlKinds are what is read of a cluster.
func kubectlKinds() []context.Kind {
	return []context.Kind{
		context.ClusterRole, context.ClusterRoleBinding, context.Role, context.RoleBinding, context.ServiceAccount, context.Namespace,
		context.Node, context.Pod, context.ReplicaSet, context.Job,
	}
}

// runKubectl reads a cluster by kubectl get, and by nothing else. name is a context of kubectl, empty for its current one.
func runKubectl(ctx stdcontext.Context, name string) (*context.Dump, error) {
	path, err := exec.LookPath("kubectl")
	if err != nil {
		return nil, errors.New("--kubectl: no kubectl in $PATH; install it, or import what it printed elsewhere: kubectl get … -A -o json | auditmill context import --cluster NAME -")
	}
	resources := make([]string, 0, len(kubectlKinds()))
	for _, k := range kubectlKinds() {
		resource := k.Resource()
		if group := k.APIGroup(); group != "" {
			resource += "." + group
		}
		resources = append(resources, resource)
	}
	args := []string{"get", strings.Join(resources, ","), "--all-namespaces", "--output=json"}
	if name != "" {
		args = append(args, "--context="+name)
	}
	var out, complaints bytes.Buffer
	run := exec.CommandContext(ctx, path, args...) //nolint:gosec // it is what --kubectl asks for, and the name is one argument
	run.Stdout, run.Stderr = &out, &complaints
	if err := run.Run(); err != nil {
		return nil, fmt.Errorf("kubectl get: %w: %s; who may not read all of these kinds can pipe others into: auditmill context import --cluster NAME -",
			err, printableText(strings.TrimSpace(complaints.String())))
	}
	d, err := context.ReadDumpFrom("kubectl", &out)
	if err != nil {
		return nil, err
	}
	d.Complete = kubectlKinds() // also those of which there is none
	return d, nil
}
