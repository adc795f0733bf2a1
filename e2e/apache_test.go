package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/kafka"
)

// apacheKafka returns a function for each node of the Apache Kafka that e2e/kafka/start started
// in dir, which kills the node and brings it back. Without dir the brokers are nobody's to
// kill. A lone one is left alone too: killed while it ends a transaction, Apache Kafka can
// leave that open for ever, see "Known defects" in DESIGN.md.
func (f *fleet) apacheKafka(brokers []string, dir string) (kills []func()) {
	f.t.Helper()
	nodes, err := filepath.Glob(filepath.Join(dir, "[1-9]"))
	if err != nil {
		f.t.Fatal(err)
	}
	if dir == "" || len(nodes) < 3 {
		f.t.Log("brokers are not killed")
		return nil
	}
	for _, node := range nodes {
		kills = append(kills, func() {
			began := time.Now()
			if err := killNode(node); err != nil {
				f.t.Errorf("killing %s: %v", node, err)
				return
			}
			if out, err := exec.Command("kafka/start", dir).CombinedOutput(); err != nil {
				f.t.Errorf("starting %s again: %v\n%s", node, err, out)
				return
			}
			if err := waitForReplicas(f.t.Context(), brokers, node); err != nil {
				f.t.Errorf("after the kill of %s: %v", node, err)
				return
			}
			f.t.Logf("%s was killed and is back in sync after %s", node, time.Since(began).Round(100*time.Millisecond))
		})
	}
	return kills
}

func killNode(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "kafka.pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// waitForReplicas waits until all replicas of all partitions are in sync. Only then may the
// next node be killed: three replicas stand the loss of one. It asks the node that came back,
// since the others may not know yet that it was away.
func waitForReplicas(ctx context.Context, brokers []string, node string) error {
	id, err := strconv.Atoi(filepath.Base(node))
	if err != nil {
		return err
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers = brokers
	client, err := kafka.NewClient(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		behind, err := replicasBehind(ctx, client.Broker(id))
		if err == nil && behind == 0 {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d partitions are not in sync: %w", behind, errors.Join(ctx.Err(), err))
		}
	}
}

// replicasBehind counts the partitions of which the node does not know all replicas as in sync.
func replicasBehind(ctx context.Context, node kmsg.Requestor) (int, error) {
	all := kmsg.NewPtrMetadataRequest()
	all.Topics = nil
	res, err := all.RequestWith(ctx, node)
	if err != nil {
		return 0, err
	}
	behind := 0
	for _, topic := range res.Topics {
		for _, p := range topic.Partitions {
			if p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
				behind++
			}
		}
	}
	return behind, nil
}
