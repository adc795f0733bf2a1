package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// apacheKafka returns a function that kills the Apache Kafka that e2e/kafka/start started
// in dir, and starts it again there. Without dir the broker is nobody's to kill. It is
// killed only with AUDITMILL_E2E_KILL_BROKER, because of a defect that is open, see "Known
// defects" in DESIGN.md.
func (f *fleet) apacheKafka(dir string) (kill func()) {
	if dir == "" || os.Getenv("AUDITMILL_E2E_KILL_BROKER") == "" {
		return func() {}
	}
	return func() {
		b, err := os.ReadFile(filepath.Join(dir, "kafka.pid"))
		if err != nil {
			f.t.Errorf("finding Apache Kafka: %v", err)
			return
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			f.t.Errorf("finding Apache Kafka: %v", err)
			return
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			f.t.Errorf("killing Apache Kafka: %v", err)
			return
		}
		if out, err := exec.Command("kafka/start", dir).CombinedOutput(); err != nil {
			f.t.Errorf("starting Apache Kafka again: %v\n%s", err, out)
		}
	}
}
