package kafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// brokerMain is a program that runs a broker until it is killed or its input ends.
func brokerMain(dir string) int {
	cfg := testConfig(dir)
	if os.Getenv("TEST_KAFKA_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	cfg.Port, _ = strconv.Atoi(os.Getenv("TEST_KAFKA_PORT"))
	s, err := Start(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// broker is a broker in a process of its own.
type broker struct {
	addr string
	cmd  *exec.Cmd
}

func startBroker(t testing.TB, dir, addr string) *broker {
	t.Helper()
	_, port, _ := strings.Cut(addr, ":")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_KAFKA_BROKER="+dir, "TEST_KAFKA_PORT="+port)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the broker did not start: %v", err)
	}
	b := &broker{addr: strings.TrimSpace(line), cmd: cmd}
	t.Cleanup(b.kill)
	return b
}

func (b *broker) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

const (
	crashValues = 3000
	crashKills  = 5
	crashGroup  = "copiers"
)

// TestKilled kills the broker again and again while an idempotent producer fills one topic and a
// transactional copier moves it to another.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startBroker(t, dir, "127.0.0.1:0")
	addr := b.addr
	for _, topic := range []string{"in", "out"} {
		createTopic(t, addr, topic, 4, nil)
	}
	ctx := testContext(t)
	produced := make(chan error, 1)
	go func() { produced <- fill(ctx, addr) }()
	copied := make(chan error, 1)
	moved := newCounter()
	go func() { copied <- moveAll(ctx, addr, &moved) }()

	for kill := range crashKills {
		moved.await(t, (kill+1)*crashValues/(crashKills+1))
		b.kill()
		b = startBroker(t, dir, addr)
	}
	if err := <-produced; err != nil {
		t.Fatal(err)
	}
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"in", "out"} {
		checkOnce(t, topic, readAll(t, addr, topic), crashValues)
	}
	// What was aborted in one crash must not come back with the next.
	b.kill()
	startBroker(t, dir, addr)
	checkOnce(t, "out", readAll(t, addr, "out"), crashValues)
	checkCommitted(t, addr)
}

func checkOnce(t *testing.T, topic string, got []string, want int) {
	t.Helper()
	seen := make(map[string]int)
	for _, value := range got {
		seen[value]++
	}
	var twice, missing []string
	for i := range want {
		switch value := strconv.Itoa(i); seen[value] {
		case 0:
			missing = append(missing, value)
		case 1:
		default:
			twice = append(twice, value)
		}
	}
	if len(twice)+len(missing) > 0 || len(seen) != want {
		t.Errorf("topic %s: %d values, twice %v, missing %v", topic, len(seen),
			twice[:min(len(twice), 10)], missing[:min(len(missing), 10)])
	}
}

// checkCommitted compares the group's offsets, which carry metadata, with the topic's ends.
func checkCommitted(t *testing.T, addr string) {
	t.Helper()
	admin := kadm.NewClient(newClient(t, addr))
	ends, err := admin.ListEndOffsets(testContext(t), "in")
	if err != nil {
		t.Fatal(err)
	}
	commits, err := admin.FetchOffsets(testContext(t), crashGroup)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		commit, ok := commits.Lookup("in", end.Partition)
		if !ok || commit.At != end.Offset {
			t.Errorf("partition %d: committed %d, end %d", end.Partition, commit.At, end.Offset)
		}
	})
}

func fill(ctx context.Context, addr string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordRetries(1000),
		kgo.MetadataMinAge(50*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }))
	if err != nil {
		return err
	}
	defer client.Close()
	for i := range crashValues {
		value := []byte(strconv.Itoa(i))
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "in", Key: value, Value: value}).FirstErr(); err != nil {
			return fmt.Errorf("producing %d: %w", i, err)
		}
	}
	return nil
}

// moveAll copies everything to the other topic in transactions, as a service would: a client that
// cannot go on is replaced.
func moveAll(ctx context.Context, addr string, moved *counter) error {
	for moved.value() < crashValues {
		err := moveSome(ctx, addr, moved)
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return nil
}

func moveSome(ctx context.Context, addr string, moved *counter) error {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(addr), kgo.TransactionalID("copier"), kgo.ConsumerGroup(crashGroup),
		kgo.ConsumeTopics("in"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(20*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(2*time.Second), kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.MetadataMinAge(50*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }))
	if err != nil {
		return err
	}
	defer session.Close()
	admin := kadm.NewClient(session.Client())
	for moved.value() < crashValues {
		poll, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := session.PollRecords(poll, 100)
		cancel()
		if err := session.Begin(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Topic: "out", Key: r.Key, Value: r.Value}, nil)
		})
		if _, err := session.End(ctx, kgo.TryCommit); err != nil {
			return err
		}
		// The answer to a commit may have been lost, so the group itself is asked.
		commits, err := admin.FetchOffsets(ctx, crashGroup)
		if err != nil {
			return err
		}
		var total int
		commits.Each(func(o kadm.OffsetResponse) { total += int(o.At) })
		moved.set(total)
	}
	return nil
}

// counter is a number that tests wait for.
type counter struct {
	mu chan int
}

func newCounter() counter { c := counter{mu: make(chan int, 1)}; c.mu <- 0; return c }

func (c *counter) set(n int)  { <-c.mu; c.mu <- n }
func (c *counter) value() int { n := <-c.mu; c.mu <- n; return n }

func (c *counter) await(t testing.TB, n int) {
	t.Helper()
	ctx := testContext(t)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for c.value() < n {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %d, have %d", n, c.value())
		case <-ticker.C:
		}
	}
}
