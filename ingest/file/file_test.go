package file

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestFollow(t *testing.T) {
	b := newBench(t, "audit.log")
	b.scan() // the file may come later
	b.append("audit.log", lines(0, 3)+`{"begun":`)
	b.scan()
	b.wantText(lines(0, 3))
	b.append("audit.log", "1}")
	b.scan()
	b.wantText(lines(0, 3))
	b.append("audit.log", "\n"+lines(3, 2))
	b.scan()
	b.wantText(lines(0, 3) + "{\"begun\":1}\n" + lines(3, 2))
	b.wantMetric("lines_total", 6)
	b.wantMetric("lag_bytes", 0)
	if got := b.metric("errors_total", reasonMissing); got != 1 {
		t.Errorf("%v errors of a missing input, want 1", got)
	}
}

// TestRotation has the ways in which logs are rotated. Each runs undisturbed, with a
// restart and with a crash at every place marked by pause.
func TestRotation(t *testing.T) {
	const name = "audit-2026-01-02T03-04-05.678.log"
	old, added, more := lines(0, 20), lines(20, 3), lines(23, 5)
	tests := map[string]func(b *bench, pause func()){
		"rename": func(b *bench, pause func()) {
			b.append("audit.log", added)
			b.rename("audit.log", name)
			pause()
			b.append("audit.log", more)
		},
		"rename, then the writer goes on for a while": func(b *bench, pause func()) {
			b.rename("audit.log", name)
			pause()
			b.append(name, added)
			pause()
			b.append("audit.log", more)
		},
		"rename and compress": func(b *bench, pause func()) {
			b.append("audit.log", added)
			b.rename("audit.log", name)
			pause()
			b.compress(name, name+".gz")
			pause()
			b.remove(name)
			pause()
			b.append("audit.log", more)
			b.time = b.time.Add(2 * linger)
		},
		"compress at once": func(b *bench, pause func()) {
			b.append("audit.log", added)
			b.compress("audit.log", name+".gz")
			b.remove("audit.log")
			b.time = b.time.Add(2 * linger)
			pause()
			b.append("audit.log", more)
		},
		"copy and truncate": func(b *bench, pause func()) {
			b.append("audit.log", added)
			b.copy("audit.log", "audit.log.1")
			pause()
			b.truncate("audit.log")
			pause()
			b.append("audit.log", more)
		},
		"copy, truncate and regrow at once": func(b *bench, pause func()) {
			b.append("audit.log", added)
			b.copy("audit.log", "audit.log.1")
			b.truncate("audit.log")
			b.append("audit.log", more)
			pause()
		},
		"numbered": func(b *bench, pause func()) {
			b.append("audit.log", added)
			b.rename("audit.log", "audit.log.1")
			pause()
			b.append("audit.log", more)
			pause()
			b.rename("audit.log.1", "audit.log.2")
			b.rename("audit.log", "audit.log.1")
			pause()
		},
	}
	for how, rotate := range tests {
		for _, when := range []string{"running", "restarted", "crashed"} {
			for _, in := range []string{"audit.log", "."} {
				t.Run(how+"/"+when+"/"+in, func(t *testing.T) {
					b := newBench(t, in)
					b.append("audit.log", old)
					b.scan()
					b.wantText(old)
					rotate(b, func() {
						switch when {
						case "restarted":
							b.stop()
						case "crashed":
							b.scan()
							b.crash()
						}
						b.scan()
					})
					b.scan()
					b.time = b.time.Add(2 * linger)
					b.scan()
					if when == "crashed" { // the last second may come twice
						b.out.bodies = []string{once(b.out.text())}
					}
					b.wantText(old + added + more)
				})
			}
		}
	}
}

func TestRenamedOutOfSight(t *testing.T) {
	b := newBench(t, "*.log")
	b.append("a.log", lines(0, 3))
	b.scan()
	b.append("a.log", lines(3, 3)+"no end")
	b.rename("a.log", "a.log.old")
	b.append("a.log", lines(6, 3))
	b.scan()
	b.append("a.log.old", " yet\n"+lines(9, 1)+"never ends")
	b.scan()
	b.wantText(lines(0, 9) + "no end yet\n" + lines(9, 1))
	b.wantMetric("rotations_total", 1)
	b.time = b.time.Add(2 * linger)
	b.scan()
	b.scan()
	b.wantText(lines(0, 9) + "no end yet\n" + lines(9, 1) + "never ends")
	b.wantMetric("open_files", 1)
}

func TestInodeIsUsedAgain(t *testing.T) {
	b := newBench(t, ".")
	b.append("a.log", lines(0, 50))
	b.scan()
	// What a new file of the same number looks like: the checkpoint knows its number.
	b.stop()
	info, err := os.Stat(b.path("a.log"))
	b.must(err)
	b.truncate("a.log")
	b.append("a.log", lines(100, 80))
	b.rename("a.log", "b.log")
	if again, err := os.Stat(b.path("b.log")); err != nil || !os.SameFile(info, again) {
		t.Fatal("the file got another number")
	}
	b.scan()
	b.wantText(lines(0, 50) + lines(100, 80))
}

func TestUnpublishedIsReadAgain(t *testing.T) {
	for _, kept := range []bool{false, true} {
		b := newBench(t, "audit.log")
		b.cfg.MaxBatch = 64 << 10
		text := lines(0, 2000)
		b.append("audit.log", text)
		calls := 0
		b.out.fail = func() (error, bool) {
			if calls++; calls == 3 {
				return errors.New("no leader"), kept
			}
			return nil, true
		}
		b.scan()
		b.scan()
		want := text
		if kept { // the third batch comes twice
			before := len(b.out.bodies[0]) + len(b.out.bodies[1])
			want = text[:before] + b.out.bodies[2] + text[before:]
		}
		b.wantText(want)
		if got := b.metric("errors_total", reasonPublish); got != 1 {
			t.Errorf("%v errors, want 1", got)
		}
	}
}

func TestAbandonedLineIsPublished(t *testing.T) {
	b := newBench(t, "audit.log")
	b.append("audit.log", lines(0, 1)+"half")
	b.scan()
	b.wantText(lines(0, 1))
	b.time = b.time.Add(abandoned + time.Second)
	b.scan()
	b.wantText(lines(0, 1) + "half")
}
