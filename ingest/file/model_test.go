package file

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A model is a log and what happens to it. Every line that is finished has to be
// published: at least once, whole, and behind the lines that stand before it in its file.
type model struct {
	*bench
	rnd   *rand.Rand
	next  int
	rest  string         // of the line that is being written
	lines map[string]int // what was written, with the number of its file
	lost  map[string]bool
	file  int      // number of the file that is being written
	old   []string // rotated files
	fail  int
	trace []string
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := &model{
		bench: newBench(t, []string{"audit.log", ".", "*"}[rnd.IntN(3)]),
		rnd:   rnd, lines: map[string]int{}, lost: map[string]bool{},
	}
	m.cfg.MaxBatch = 64 << 10
	m.out.fail = func() (error, bool) {
		if m.fail == 0 {
			return nil, true
		}
		m.fail--
		return errors.New("no leader"), m.rnd.IntN(2) == 0
	}
	return m
}

// finish gives the end of the line that is being written, or a whole one.
func (m *model) finish() string {
	if m.rest == "" {
		m.rest = m.line()
	}
	text := m.rest
	m.rest = ""
	return text
}

func (m *model) line() string {
	m.next++
	length := m.rnd.IntN(300)
	if m.rnd.IntN(60) == 0 {
		length = m.rnd.IntN(200 << 10) // above MaxBatch
	}
	line := fmt.Sprintf("{%d:%s}\n", m.next, strings.Repeat("x", length))
	m.lines[line] = m.file
	return line
}

func (m *model) put() {
	var b strings.Builder
	for range m.rnd.IntN(20) {
		b.WriteString(m.finish())
	}
	if m.rest == "" && m.rnd.IntN(3) == 0 {
		m.rest = m.line()
	}
	if cut := m.rnd.IntN(len(m.rest) + 1); cut < len(m.rest) {
		b.WriteString(m.rest[:cut])
		m.rest = m.rest[cut:]
	}
	m.append("audit.log", b.String())
}

// whole finishes the line in the file that has it.
func (m *model) whole(name string) {
	if m.rest != "" {
		m.append(name, m.finish())
	}
}

func (m *model) maybeScan() {
	if m.rnd.IntN(2) == 0 {
		m.scan()
	}
	if m.rnd.IntN(10) == 0 {
		m.restart()
	}
}

func (m *model) restart() {
	if m.src == nil {
		return
	}
	if m.rnd.IntN(2) == 0 {
		m.crash()
	}
	m.stop()
}

func (m *model) rename() {
	m.append("audit.log", "")
	name := fmt.Sprintf("audit-2026-01-02T03-04-%06d.log", len(m.trace))
	m.bench.rename("audit.log", name)
	m.maybeScan()
	m.whole(name)
	m.old = append(m.old, name)
	m.file++
}

func (m *model) copyTruncate() {
	m.append("audit.log", "")
	m.whole("audit.log")
	name := fmt.Sprintf("audit.log.%d", len(m.trace))
	m.copy("audit.log", name)
	m.maybeScan()
	m.bench.truncate("audit.log")
	m.old = append(m.old, name)
	m.file++
}

// truncate loses what was not published.
func (m *model) truncate() {
	m.append("audit.log", "")
	m.whole("audit.log")
	for range 3 {
		m.maybeScan()
	}
	have := m.have()
	for line, file := range m.lines {
		if file == m.file && !have[line] {
			m.lost[line] = true
		}
	}
	m.bench.truncate("audit.log")
	m.file++
}

func (m *model) have() map[string]bool {
	have := map[string]bool{}
	for line := range strings.Lines(m.out.text()) {
		have[line] = true
	}
	return have
}

func (m *model) compress() {
	if len(m.old) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.old))
	name := m.old[i]
	m.old = slices.Delete(m.old, i, i+1)
	packed := pack(m.read(name))
	for range m.rnd.IntN(3) {
		m.write(name+".gz", packed[:m.rnd.IntN(len(packed))])
		m.maybeScan()
	}
	m.write(name+".gz", packed)
	m.maybeScan()
	m.remove(name)
}

// copyBack makes a second copy of a log that stays.
func (m *model) backup() {
	m.append("audit.log", "")
	m.whole("audit.log")
	m.copy("audit.log", fmt.Sprintf("backup%d", len(m.trace)))
}

// wait lets time go by. A line that is not finished would be given up if it were long.
func (m *model) wait() {
	if m.rest != "" {
		m.append("audit.log", m.rest[:1])
		m.rest = m.rest[1:]
	}
	m.time = m.time.Add([]time.Duration{settle, linger, 2 * linger}[m.rnd.IntN(3)])
	if m.rest == "" && m.rnd.IntN(3) == 0 {
		m.time = m.time.Add(abandoned)
	}
}

func (m *model) step() {
	ops := []struct {
		name   string
		weight int
		do     func()
	}{
		{"put", 10, m.put},
		{"scan", 10, m.scan},
		{"rename", 2, m.rename},
		{"copyTruncate", 2, m.copyTruncate},
		{"truncate", 1, m.truncate},
		{"compress", 2, m.compress},
		{"backup", 1, m.backup},
		{"wait", 2, m.wait},
		{"restart", 2, m.restart},
		{"fail", 2, func() { m.fail = m.rnd.IntN(4) }},
	}
	total := 0
	for _, op := range ops {
		total += op.weight
	}
	at := m.rnd.IntN(total)
	for _, op := range ops {
		if at -= op.weight; at < 0 {
			m.trace = append(m.trace, op.name)
			op.do()
			return
		}
	}
}

func (m *model) check() {
	m.Helper()
	seen, lastOf := map[string]bool{}, map[int]string{}
	for line := range strings.Lines(m.out.text()) {
		file, ok := m.lines[line]
		if !ok {
			m.Errorf("published %q, which nobody wrote", short(line))
			continue
		}
		if before := lastOf[file]; !seen[line] && number(before) > number(line) {
			m.Errorf("published %q after %q", short(line), short(before))
		}
		if !seen[line] {
			lastOf[file] = line
		}
		seen[line] = true
	}
	for line := range m.lines {
		if !seen[line] && !m.lost[line] {
			m.Errorf("lost %q of file %d", short(line), m.lines[line])
		}
	}
	if m.Failed() {
		m.Logf("after %v\nwith\n%s", m.trace, m.logs.String())
	}
}

func short(line string) string { return line[:min(len(line), 20)] }

func number(line string) (n int) {
	_, _ = fmt.Sscanf(line, "{%d:", &n)
	return n
}

func runModel(t *testing.T, seed uint64, steps int) {
	t.Helper()
	m := newModel(t, seed)
	for range steps {
		m.step()
	}
	m.append("audit.log", "")
	m.whole("audit.log")
	m.fail = 0
	for range 5 {
		m.scan()
		m.time = m.time.Add(2 * linger)
	}
	m.check()
	if got := m.metric("lag_bytes", ""); got != 0 {
		t.Errorf("%v bytes of lag at the end", got)
	}
}

func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			runModel(t, seed, 40)
		})
	}
}

func FuzzModel(f *testing.F) {
	f.Add(uint64(1), uint8(10))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) { runModel(t, seed, int(steps)) })
}
