package clickhouse

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	barWidth  = 30
	barPeriod = 100 * time.Millisecond
	// lineShare is how much of the whole passes between two lines where there is no terminal.
	lineShare = 25
)

// NewProgress returns a callback for LibraryConfig.Progress that draws on out: a bar when out
// is a terminal, else a few lines.
func NewProgress(out *os.File) func(done, total int64) {
	return newProgress(out, term.IsTerminal(int(out.Fd())))
}

func newProgress(out io.Writer, bar bool) func(done, total int64) {
	var (
		mu       sync.Mutex
		drawn    time.Time
		share    int64 = -1
		finished bool
	)
	return func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if finished || total <= 0 {
			return
		}
		finished = done >= total
		percent := done * 100 / total
		switch {
		case bar && (finished || time.Since(drawn) >= barPeriod):
			drawn = time.Now()
			fill := int(percent) * barWidth / 100
			fmt.Fprintf(out, "\rfetching the ClickHouse engine [%s%s] %3d %%",
				strings.Repeat("=", fill), strings.Repeat(" ", barWidth-fill), percent)
			if finished {
				fmt.Fprintln(out)
			}
		case !bar && percent/lineShare > share:
			share = percent / lineShare
			fmt.Fprintf(out, "fetching the ClickHouse engine: %d %% of %d MB\n", percent, total>>20)
		}
	}
}
