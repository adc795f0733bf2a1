// Package demo shows the pipeline at work: it plays recorded events of a real API server
// as two clusters through the webhook, shows what the services do with them, asks
// ClickHouse some questions, and checks that nothing was lost.
package demo

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/ingest"
	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/run"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/pipeline"
	"github.com/auditmill/auditmill/testdata/recording"
)

// Options says how the demo runs.
type Options struct {
	// Out is where it shows itself; TTY says that it is a terminal.
	Out io.Writer
	TTY bool
	// Rate is the events per second and cluster.
	Rate float64
	// Exit ends the demo after the recording instead of waiting for Ctrl-C.
	Exit bool
	// Logs receives the services' log.
	Logs io.Writer
	// Progress is told about the download of the ClickHouse library.
	Progress func(done, total int64)
}

// clusters are the names under which the recording is played.
func clusters() []string { return []string{"prod-eu", "prod-us"} }

// Run shows the demo. cfg.Embedded.DataDir must be a directory of the demo's own.
func Run(ctx context.Context, cfg pipeline.Config, o Options) (err error) {
	s := &screen{out: o.Out, tty: o.TTY}
	s.title("auditmill demo: real audit events, from the webhook to SQL rows and alerts")
	begin := time.Now()
	servers, err := pipeline.StartServers(ctx, cfg.Embedded, nil, o.Progress)
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, servers.Stop(stop))
	}()
	servers.Configure(&cfg)
	token := rand.Text()
	cfg.Ingest = frontDoor(cfg.Ingest, token)
	if err := pipeline.Prepare(ctx, &cfg); err != nil {
		return err
	}
	lists, err := known()
	if err != nil {
		return err
	}
	if err := tell(ctx, cfg.Kafka, lists); err != nil {
		return err
	}
	p, err := pipeline.New(cfg, pipeline.Options{Logs: o.Logs, Sink: console(cfg, s), Posted: echo(cfg, s)}, pipeline.All()...)
	if err != nil {
		return err
	}
	s.say("Kafka and ClickHouse are up, tables and topics made, in %s.", time.Since(begin).Round(time.Millisecond))
	s.say("A list of people and one of networks are imported; roles and bindings are learned from the events.")
	show := &show{cfg: &p.Config, process: p, servers: servers, screen: s, o: o, token: token, known: lists}
	return p.Run(ctx, run.Service{Name: "demo", Run: show.run})
}

// frontDoor opens the webhook for the demo's clusters alone. The token of a cluster is the
// demo's secret and the cluster's name.
func frontDoor(cfg ingest.Config, secret string) ingest.Config {
	cfg.Webhook.Listen = "127.0.0.1:0"
	cfg.Webhook.Tokens = nil
	for _, cluster := range clusters() {
		hash := sha256.Sum256([]byte(secret + cluster))
		cfg.Webhook.Tokens = append(cfg.Webhook.Tokens, ingest.Token{Cluster: cluster, SHA256: hex.EncodeToString(hash[:])})
	}
	return cfg
}

// console shows the messages that nobody posts to Slack.
func console(cfg pipeline.Config, s *screen) notify.Sink {
	if cfg.Alert.Slack.Enabled() {
		return nil
	}
	return notify.NewConsole(s, s.tty)
}

// echo shows the messages that were posted to Slack.
func echo(cfg pipeline.Config, s *screen) func(*notify.Message, notify.Receipt) {
	if !cfg.Alert.Slack.Enabled() {
		return nil
	}
	return func(m *notify.Message, _ notify.Receipt) { s.say("%s", notify.ConsoleText(m, s.tty)) }
}

// show is a running demo.
type show struct {
	cfg     *pipeline.Config
	process *pipeline.Process
	servers *pipeline.Servers
	screen  *screen
	o       Options
	token   string
	known   offline.Context
}

func (d *show) run(ctx context.Context) error {
	lines, err := recording.Lines()
	if err != nil {
		return err
	}
	conn, err := load.Connect(d.cfg.ClickHouse)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only idle connections are left
	d.screen.title("Playing %d recorded events each as %s and %s through the webhook, %.0f events/s each",
		len(lines), clusters()[0], clusters()[1], d.o.Rate)
	stopWatching := d.watch(ctx)
	err = d.play(ctx, lines)
	if err == nil {
		err = waitLoaded(ctx, conn, d.cfg.ClickHouse.Database, int64(len(lines)*len(clusters())))
	}
	var corrected int64
	if err == nil {
		corrected, err = waitKnown(ctx, conn, d.cfg.ClickHouse.Database, lines, d.known)
	}
	stopWatching()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if err := answer(ctx, conn, d.cfg.ClickHouse.Database, d.screen); err != nil {
		return err
	}
	v := verifier{conn: conn, database: d.cfg.ClickHouse.Database, lines: lines, known: d.known, screen: d.screen}
	if err := v.verify(ctx, corrected); err != nil {
		return err
	}
	if d.o.Exit {
		return nil
	}
	d.screen.title("Everything stays up until Ctrl-C. Look around:")
	d.screen.say("%sMetrics          http://%s/metrics\n", d.servers.Describe(), d.opsAddr(ctx))
	<-ctx.Done()
	return nil
}

func (d *show) opsAddr(ctx context.Context) string {
	addr, err := d.process.Ops.Listen(ctx)
	if err != nil || addr == nil {
		return "(none)"
	}
	return addr.String()
}

// play sends the recording as all clusters at once.
func (d *show) play(ctx context.Context, lines [][]byte) error {
	address, err := d.process.Ingest.Addr(ctx)
	if err != nil {
		return err
	}
	errs := make(chan error, len(clusters()))
	for _, cluster := range clusters() {
		cfg := replay.DefaultConfig()
		cfg.URL, cfg.Cluster, cfg.Token, cfg.Rate = "http://"+address, cluster, conf.Secret(d.token+cluster), d.o.Rate
		go func() {
			counts, err := replay.Events(ctx, cfg, lines)
			if err == nil && counts.Accepted != int64(len(lines)) {
				err = fmt.Errorf("%d of %d events were accepted", counts.Accepted, len(lines))
			}
			if err != nil {
				err = fmt.Errorf("playing %s: %w", cluster, err)
			}
			errs <- err
		}()
	}
	var all []error
	for range clusters() {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// TempDir makes a data directory that remove takes away again.
func TempDir() (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp("", "auditmill-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("making the data directory: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
