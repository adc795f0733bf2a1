package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/internal/conf"
)

// header is longer than what a content is recognised by at its begin.
func header() string { return strings.Repeat("# the same in every file\n", 60) }

func TestFilesThatBeginAlike(t *testing.T) {
	b := newBench(t, ".")
	b.append("a.log", header()+lines(0, 100))
	b.scan()
	b.append("b.log", header()+lines(100, 20)) // shorter than what was read of a.log
	b.scan()
	b.append("c.log", header()+lines(200, 150)) // longer
	b.scan()
	b.write("d.log.gz", pack(header()+lines(400, 10)))
	b.time = b.time.Add(settle)
	b.scan()
	want := header() + lines(0, 100) + header() + lines(100, 20) + header() + lines(200, 150) +
		header() + lines(400, 10)
	b.wantText(want)
	b.stop()
	b.append("b.log", lines(120, 3))
	b.scan()
	b.wantText(want + lines(120, 3))

	b.truncate("c.log")
	b.append("c.log", header()+lines(500, 200)) // longer than before
	b.scan()
	b.wantText(want + lines(120, 3) + header() + lines(500, 200))
	b.wantMetric("truncations_total", 1)
}

// TestSecondCopy has copies that stay beside the log. They are never read, until one has
// more than the other.
func TestSecondCopy(t *testing.T) {
	b := newBench(t, ".")
	b.append("live.log", lines(0, 100))
	b.scan()
	b.write("half", lines(0, 50))
	b.write("packed.gz", pack(lines(0, 70)))
	b.copy("live.log", "copy")
	b.append("live.log", lines(100, 50))
	b.time = b.time.Add(settle)
	b.scan()
	b.wantText(lines(0, 150))
	for range 2 { // the checkpoint must not take a copy for the log
		b.stop()
		b.time = b.time.Add(settle)
		b.scan()
		b.wantText(lines(0, 150))
	}
	b.wantMetric("lag_bytes", 0)
	b.append("live.log", lines(150, 10))
	b.scan()
	b.wantText(lines(0, 160))
	b.copy("live.log", "moved")
	b.scan()
	b.append("moved", lines(160, 5)) // it goes on there
	b.scan()
	b.wantText(lines(0, 165))
}

// TestLongerCopy has copies of a content that is read from a file which has less of it.
func TestLongerCopy(t *testing.T) {
	for name, have := range map[string]func(b *bench){
		"plain":         func(b *bench) { b.write("short", lines(0, 50)) },
		"compressed":    func(b *bench) { b.write("short", pack(lines(0, 50))) },
		"broken":        func(b *bench) { b.write("short", pack(lines(0, 3000))[:10000]) },
		"not published": func(b *bench) { b.out.fail = func() (error, bool) { return errors.New("no leader"), false } },
	} {
		for _, compressed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, "/", compressed), func(t *testing.T) {
				b := newBench(t, ".")
				b.append("live", lines(0, 50))
				b.scan()
				have(b)
				b.time = b.time.Add(settle)
				b.scan()
				text := lines(0, 3500)
				if compressed {
					text = pack(text)
				}
				b.write("long", text)
				b.remove("live")
				b.time = b.time.Add(settle)
				b.scan()
				b.out.fail = nil
				b.time = b.time.Add(linger)
				b.scan()
				b.scan()
				b.wantText(lines(0, 3500))
				b.stop()
				b.scan()
				b.scan()
				b.wantText(lines(0, 3500))
			})
		}
	}
}

func TestDirectoryMovedToAnotherDisk(t *testing.T) {
	b := newBench(t, ".")
	b.append("backup", lines(0, 50))
	b.append("live.log", lines(0, 90))
	b.scan()
	b.out.bodies = nil
	b.stop()
	for _, name := range []string{"backup", "live.log"} { // other inodes
		text := b.read(name)
		b.rename(name, "."+name)
		b.write(name, text)
	}
	b.append("live.log", lines(90, 10))
	b.time = b.time.Add(settle)
	b.scan()
	b.scan()
	b.wantText(lines(90, 10))
}

func TestCompressed(t *testing.T) {
	b := newBench(t, ".")
	b.cfg.MaxBatch = 64 << 10
	long := strings.Repeat("y", 300<<10) + "\n"
	text := lines(0, 3000) + long + lines(3000, 500) + "no end"
	b.write("a.log", pack(text)) // its name does not say so
	b.write("empty.gz", "")
	b.write("members.gz", pack(lines(5000, 10))+pack(lines(5010, 10)))
	b.scan()
	b.wantText("") // it could be in the making
	b.time = b.time.Add(settle)
	b.scan()
	b.wantText(text + lines(5000, 20))
	b.stop()
	b.scan()
	b.scan()
	b.wantText(text + lines(5000, 20))
	if got := b.metric("open_files", ""); got != 1 { // the empty one
		t.Errorf("%v open files, want 1: what is read to its end is not opened again", got)
	}
}

func TestBrokenGzip(t *testing.T) {
	whole := pack(lines(0, 3000))
	damaged := []byte(whole)
	damaged[len(damaged)-5] ^= 1 // in the checksum
	for name, text := range map[string]string{
		"cut": whole[:len(whole)/2], "header only": whole[:12], "checksum": string(damaged),
		"garbage behind": whole + "garbage that is no member",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, ".")
			b.write("a.gz", text)
			b.append("b.log", lines(9000, 3))
			b.time = b.time.Add(settle)
			b.scan()
			b.scan()
			got := b.out.text()
			if !strings.HasSuffix(got, lines(9000, 3)) || !strings.HasPrefix(lines(0, 3000), strings.TrimSuffix(got, lines(9000, 3))) {
				t.Errorf("published %s", brief(got))
			}
			if got := b.metric("errors_total", reasonGzip); got != 1 {
				t.Errorf("%v errors, want 1", got)
			}
			for _, want := range []string{"a.gz", "reason=gzip", "put a whole file in its place"} {
				if !strings.Contains(b.logs.String(), want) {
					t.Errorf("the log does not say %q: %s", want, b.logs.String())
				}
			}
			b.write("a.gz", whole)
			b.time = b.time.Add(settle)
			b.scan()
			if diff := cmp.Diff(lines(0, 3000)+lines(9000, 3), sorted(b.out.text())); diff != "" {
				t.Errorf("after the repair, -want +got:\n%s", diff)
			}
		})
	}
}

func TestUnsupportedCompression(t *testing.T) {
	b := newBench(t, ".")
	b.write("a.zst", "\x28\xb5\x2f\xfd rest")
	b.append("b.log", lines(0, 3))
	b.scan()
	b.scan()
	b.wantText(lines(0, 3))
	if n := strings.Count(b.logs.String(), "reason=unsupported"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, b.logs.String())
	}
}

func TestLongLines(t *testing.T) {
	const maxLine = 16 << 20
	fits := strings.Repeat("a", maxLine) + "\n"
	tooLong := strings.Repeat("0123456789", 2*maxLine/10) + "end"
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed %v", compressed), func(t *testing.T) {
			b := newBench(t, ".")
			b.cfg.MaxLine = maxLine
			text := lines(0, 2) + fits + tooLong + "\n" + lines(2, 2) + tooLong
			if compressed {
				text = pack(text)
			}
			b.write("a.log", text)
			b.time = b.time.Add(abandoned)
			calls := 0
			b.out.fail = func() (error, bool) {
				if calls++; calls == 4 {
					return errors.New("no leader"), true
				}
				return nil, true
			}
			b.scan()
			b.stop() // in the middle of the line
			b.scan()
			b.time = b.time.Add(abandoned)
			b.scan()
			if want := lines(0, 2) + fits + lines(2, 2); b.out.text() != want {
				t.Errorf("published %s", brief(b.out.text()))
			}
			var dead strings.Builder
			parts := map[string]bool{}
			for _, d := range b.out.dead {
				if len(d.Value) > partSize || d.Reason != reasonLongLine || d.Source != "file/prod" {
					t.Errorf("a letter has %d bytes, reason %q and source %q", len(d.Value), d.Reason, d.Source)
				}
				if !parts[d.Detail] {
					dead.Write(d.Value)
				}
				parts[d.Detail] = true
			}
			if dead.String() != tooLong+tooLong {
				t.Errorf("the dead letters hold %d bytes, want %d", dead.Len(), 2*len(tooLong))
			}
			want := fmt.Sprintf("the line at byte %d of %s is longer than max_line (16MiB): part 1, "+
				"from byte 0 of the line, more parts follow", len(lines(0, 2)+fits), b.path("a.log"))
			if got := b.out.dead[0].Detail; got != want {
				t.Errorf("the letter says %q, want %q", got, want)
			}
			if len(b.out.dead) != 2*5+1 {
				t.Errorf("%d letters, want 11", len(b.out.dead))
			}
		})
	}
}

// TestHole has a writer that does not append: after a truncation it goes on where it was.
func TestHole(t *testing.T) {
	b := newBench(t, "audit.log")
	b.append("audit.log", lines(0, 100))
	b.scan()
	b.copy("audit.log", "audit.log.1")
	size := len(b.read("audit.log"))
	b.truncate("audit.log")
	f, err := os.OpenFile(b.path("audit.log"), os.O_WRONLY, 0)
	b.must(err)
	defer f.Close()
	_, err = f.WriteAt([]byte(lines(100, 5)), int64(size))
	b.must(err)
	b.touch("audit.log")
	b.scan()
	b.append("audit.log", "\x00\x00")
	b.scan()
	b.append("audit.log", lines(105, 1))
	b.scan()
	b.wantText(lines(0, 106))
	b.wantMetric("hole_bytes_total", float64(size+2))
	// Zero bytes at the end may be what a network file system has not written yet.
	next := lines(106, 1)
	at := int64(len(b.read("audit.log")))
	b.append("audit.log", strings.Repeat("\x00", len(next)))
	b.scan()
	_, err = f.WriteAt([]byte(next), at)
	b.must(err)
	b.touch("audit.log")
	b.scan()
	b.wantText(lines(0, 107))
}

func TestOtherCases(t *testing.T) {
	t.Run("a line is written over many passes", func(t *testing.T) {
		b := newBench(t, "audit.log")
		for _, c := range lines(0, 3) {
			b.append("audit.log", string(c))
			b.scan()
		}
		b.wantText(lines(0, 3))
	})
	t.Run("a file is deleted while it is read", func(t *testing.T) {
		b := newBench(t, "*.log")
		b.append("a.log", lines(0, 3))
		b.out.fail = func() (error, bool) { return errors.New("no leader"), false }
		b.scan()
		b.remove("a.log")
		b.scan()
		b.out.fail = nil
		b.scan()
		b.wantText(lines(0, 3))
		b.time = b.time.Add(linger)
		b.scan()
		b.wantMetric("open_files", 0)
	})
	t.Run("the directory is away for a while", func(t *testing.T) {
		b := newBench(t, "logs/audit.log")
		b.must(os.Mkdir(b.path("logs"), 0o700))
		b.append("logs/audit.log", lines(0, 3)+"begun ")
		b.scan()
		b.rename("logs", "away")
		for range 3 {
			b.scan()
			b.time = b.time.Add(2 * linger)
		}
		b.wantText(lines(0, 3))
		b.rename("away", "logs")
		b.append("logs/audit.log", "ended\n")
		b.scan()
		b.wantText(lines(0, 3) + "begun ended\n")
	})
	t.Run("old files are left alone", func(t *testing.T) {
		b := newBench(t, ".")
		b.cfg.IgnoreOlder = time.Hour
		b.append("a.log", lines(0, 3))
		b.append("b.log", lines(3, 3))
		b.time = b.time.Add(2 * time.Hour)
		b.append("b.log", lines(6, 3))
		b.scan()
		b.wantText(lines(3, 6))
		b.append("a.log", lines(9, 1))
		b.scan()
		b.wantText(lines(3, 6) + lines(0, 3) + lines(9, 1))
	})
	t.Run("hidden files, other files and the checkpoint are no logs", func(t *testing.T) {
		b := newBench(t, ".")
		b.cfg.Checkpoint = b.path("files.json")
		b.append(".hidden", lines(0, 3))
		b.must(os.Mkdir(b.path("directory"), 0o700))
		b.append("a.log", lines(3, 3))
		b.scan()
		b.scan()
		b.wantText(lines(3, 3))
	})
	t.Run("two inputs name one file", func(t *testing.T) {
		b := newBench(t, ".", "a.log")
		b.cfg.Inputs[1].Cluster = "test"
		b.append("a.log", lines(0, 3))
		b.scan()
		b.scan()
		if diff := cmp.Diff([]string{"prod"}, b.out.clusters); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if n := strings.Count(b.logs.String(), "file belongs to two clusters"); n != 1 {
			t.Errorf("said %d times:\n%s", n, b.logs.String())
		}
	})
	t.Run("inputs take turns", func(t *testing.T) {
		b := newBench(t, "a.log", "b.log")
		b.cfg.MaxBatch = 64 * conf.KiB
		b.append("a.log", lines(0, 2000))
		b.append("b.log", lines(2000, 3))
		b.scan()
		if got := b.out.bodies[1]; got != lines(2000, 3) {
			t.Errorf("the second batch is %s", brief(got))
		}
	})
}

func TestFoundAtOnceAfterRestart(t *testing.T) {
	b := newBench(t, ".")
	b.append("live.log", header()+lines(0, 50))
	b.scan()
	b.copy("live.log", "backup")
	b.scan()
	b.stop()
	b.append("live.log", lines(50, 5))
	b.rename("live.log", "live.1")
	b.scan()
	b.wantText(header() + lines(0, 55)) // the backup did not take its place
	b.stop()
	b.remove("backup")
	b.truncate("live.1")
	b.append("live.1", header()+lines(60, 5))
	b.scan()
	b.wantText(header() + lines(0, 55) + header() + lines(60, 5)) // without waiting for more
}

func TestForgetting(t *testing.T) {
	b := newBench(t, ".")
	b.append("a.log", lines(0, 3))
	b.append("b.log", lines(3, 3))
	b.scan()
	b.rename("a.log", ".a")
	b.scan()
	b.stop()
	b.time = b.time.Add(forget)
	b.scan() // seen missing for the first time, as the file was open before
	b.time = b.time.Add(forget - time.Minute)
	b.scan()
	b.rename(".a", "a.log")
	b.scan()
	b.wantText(lines(0, 6))
	b.rename("a.log", ".a")
	for range 4 {
		b.time = b.time.Add(forget)
		b.scan()
	}
	if n := len(b.src.checkpoint.entries); n != 1 {
		t.Errorf("%d entries, want that of b.log", n)
	}
	b.rename(".a", "a.log")
	b.scan()
	b.wantText(lines(0, 6) + lines(0, 3))
}

// lateReader looks at a body after its publishing has failed, as a producer may that
// still has the records in its buffer.
type lateReader struct {
	recorder
	body, before []byte
}

func (l *lateReader) Publish(ctx context.Context, cluster string, body []byte) error {
	if l.body == nil {
		l.body, l.before = body, bytes.Clone(body)
		return errors.New("timed out")
	}
	return l.recorder.Publish(ctx, cluster, body)
}

func TestFailedBodyIsNotWrittenTo(t *testing.T) {
	b := newBench(t, ".")
	b.append("a.log", lines(0, 5))
	b.append("b.log", lines(5, 50))
	b.start()
	late := &lateReader{}
	b.src.publisher = late
	b.scan()
	if !bytes.Equal(late.body, late.before) || once(late.text()) != late.text() {
		t.Errorf("the body became %s", brief(string(late.body)))
	}
}

func TestPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	b := newBench(t, ".")
	b.append("a.log", lines(0, 3))
	b.append("b.log", lines(3, 3))
	b.must(os.Chmod(b.path("a.log"), 0))
	b.scan()
	b.wantText(lines(3, 3))
	if got := b.metric("errors_total", reasonPermission); got != 1 {
		t.Errorf("%v errors, want 1", got)
	}
	b.must(os.Chmod(b.path("a.log"), 0o600))
	b.scan()
	b.wantText(lines(3, 3) + lines(0, 3))
}

func TestCancelledWhilePublishing(t *testing.T) {
	b := newBench(t, "audit.log")
	b.append("audit.log", lines(0, 3))
	b.start()
	ctx, cancel := context.WithCancel(t.Context())
	b.out.fail = func() (error, bool) {
		cancel()
		return ctx.Err(), false
	}
	b.src.pass(ctx)
	b.stop()
	b.out.fail = nil
	b.scan()
	b.wantText(lines(0, 3))
	if strings.Contains(b.logs.String(), "WARN") {
		t.Errorf("the end of a run is no problem: %s", b.logs.String())
	}
}

// sorted puts lines in their order and leaves out those that come twice.
func sorted(text string) string {
	all := strings.SplitAfter(once(text), "\n")
	return strings.Join(sortStrings(all), "")
}
