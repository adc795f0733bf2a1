// Package watch asks API servers what is true now, for enrich.
//
// Comes in: lists and watches of roles, bindings, service accounts, namespaces, pods and their owners, and nodes, of any
// number of clusters. Goes out: records of audit.context.v1 for what the audit stream did not tell, or told wrongly.
// Guaranteed: nothing is written that the topic says already; that all objects of a kind are known is said only after a
// list of all of them is in the topic; a cluster or a kind that cannot be read holds up no other; a watch never says that
// something was so before it was seen, and says what is not known of the time between. It reads no Secrets and changes
// nothing in a cluster. Any number of instances may watch the same clusters.
package watch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// Config is the section watch of the configuration.
type Config struct {
	Clusters []Cluster     `mapstructure:"clusters" doc:"the clusters to watch"`
	Kinds    []string      `mapstructure:"kinds" doc:"what to watch, as the API server calls it; leave out pods, replicasets and jobs where service accounts need not be led back to workloads, and less is read and kept"`
	Wait     time.Duration `mapstructure:"wait" doc:"how long the audit stream gets to tell of a change, which knows who made it and when exactly, before the watch does; 0 for clusters whose audit policy records no bodies"`
	Resync   time.Duration `mapstructure:"resync" doc:"how often everything is listed again and compared with what is known; 0 for never"`
	Group    string        `mapstructure:"group" doc:"begin of the names of consumer groups that remember until when a cluster was watched: group/cluster"`
	PageSize int           `mapstructure:"page_size" doc:"most objects that an API server is asked for at a time, 1 to 10000"`
}

// Cluster is a cluster to watch.
type Cluster struct {
	Name       string `mapstructure:"name" doc:"name of the cluster, the same as in ingest"`
	Kubeconfig string `mapstructure:"kubeconfig" doc:"kubeconfig file; read again after a failure, so it may be replaced"`
	Context    string `mapstructure:"context" doc:"context of the kubeconfig; empty for its current one"`
	InCluster  bool   `mapstructure:"in_cluster" doc:"whether it is the cluster that this runs in, with the service account of its own pod"`
}

// DefaultConfig watches everything of no cluster.
func DefaultConfig() Config {
	c := Config{Group: "auditmill-watch", Wait: 2 * time.Second, Resync: time.Hour, PageSize: 500}
	for _, r := range resources() {
		c.Kinds = append(c.Kinds, r.name)
	}
	return c
}

const (
	maxPage   = 10_000
	maxWait   = 5 * time.Minute
	minResync = time.Minute
)

// Validate reports every fault by its key.
func (c Config) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	first := map[string]int{}
	for i, cl := range c.Clusters {
		errs = append(errs, conf.Join(fmt.Sprintf("clusters[%d]", i), cl.Validate()))
		if j, ok := first[cl.Name]; ok && cl.Name != "" {
			add("clusters[%d].name: %q is the name of clusters[%d] already; two clusters would be taken for one", i, cl.Name, j)
		} else {
			first[cl.Name] = i
		}
	}
	if len(c.Kinds) == 0 {
		add("kinds: must name at least one of %s", known())
	}
	for i, k := range c.Kinds {
		if _, ok := resourceOf(k); !ok {
			add("kinds[%d]: %q is none of %s", i, k, known())
		} else if slices.Index(c.Kinds, k) < i {
			add("kinds[%d]: %q is there twice", i, k)
		}
	}
	if c.Wait < 0 || c.Wait > maxWait {
		add("wait: must be 0 to %s", maxWait)
	}
	if c.Resync != 0 && c.Resync < minResync {
		add("resync: must be 0 or at least %s, since it reads everything anew", minResync)
	}
	if c.Group == "" {
		add("group: must not be empty")
	}
	if c.PageSize < 1 || c.PageSize > maxPage {
		add("page_size: must be 1 to %d", maxPage)
	}
	return errors.Join(errs...)
}

func known() string {
	var names []string
	for _, r := range resources() {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

// Validate reports every fault by its key. The kubeconfig is read by the service: one that is missing holds up no other cluster.
func (c Cluster) Validate() error {
	var errs []error
	switch {
	case c.Name == "":
		errs = append(errs, errors.New("name: must not be empty: the name that ingest knows the cluster by"))
	case c.Name == "*" || strings.Contains(c.Name, "/"):
		errs = append(errs, fmt.Errorf("name: %q is no name of a cluster", c.Name))
	}
	switch {
	case c.InCluster && (c.Kubeconfig != "" || c.Context != ""):
		errs = append(errs, errors.New("in_cluster: excludes kubeconfig and context"))
	case !c.InCluster && c.Kubeconfig == "":
		errs = append(errs, errors.New("kubeconfig: must name a file, unless in_cluster is true"))
	}
	return errors.Join(errs...)
}
