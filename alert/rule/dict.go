package rule

import (
	"errors"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// dictState is a dictionary column of the current batch, or a column of small numbers,
// which are given codes here. For each distinct value it knows which tests of the column
// the value satisfies: one bit for each test.
type dictState struct {
	tests  []*test
	finder *finder
	words  int // of the bits

	// cache holds the bits of values seen in this and earlier batches.
	cache  map[string][]uint64
	cached int // bytes
	found  finding
	digits []byte
	blank  []uint64 // bits of rows that are null or empty

	rows     int
	distinct int
	values   *array.String // of codes, unless numeric
	numeric  bool
	numbers  []uint16   // of codes, if numeric
	codeOf   []int32    // of each uint16: its code + 1 in this batch
	codes    []int32    // of each element; distinct for null and for empty lists
	owner    []int32    // row of each element, for lists; else nil
	counts   []int32    // of each code
	bits     [][]uint64 // of each code
	any      []uint64   // tests that at least one row satisfies
	fault    error

	// Rows by code: those of code c are postings[starts[c]:starts[c+1]].
	posted   bool
	starts   []int32
	postings []int32
	empty    bitmap // rows that are null or empty, if known
	known    bool
}

// maxCached bounds the bytes that a dictState keeps of values between batches: user agents and
// the like are the clients' to choose, as many and as long as they please.
const maxCached = 4 << 20

func newDictState(plan *columnPlan) *dictState {
	d := &dictState{tests: plan.tests, finder: plan.finder, words: max(words(len(plan.tests)), 1), cache: map[string][]uint64{}}
	d.blank = make([]uint64, d.words)
	d.any = make([]uint64, d.words)
	for _, t := range d.tests {
		if t.blank && !t.consult {
			bitmap(d.blank).set(t.bit)
		}
	}
	return d
}

func (d *dictState) reset(rows int) {
	d.rows, d.posted, d.known, d.fault = rows, false, false, nil
	d.codes, d.owner, d.values = d.codes[:0], d.owner[:0], nil
	for _, n := range d.numbers {
		d.codeOf[n] = 0
	}
	d.numbers, d.numeric = d.numbers[:0], false
}

func (d *dictState) bindNull(rows int) error {
	d.reset(rows)
	d.distinct = 0
	for range rows {
		d.codes = append(d.codes, 0)
	}
	d.decide()
	return nil
}

func (d *dictState) bindScalar(a arrow.Array) bool {
	d.reset(a.Len())
	if numbers, ok := a.(*array.Uint16); ok {
		d.bindNumbers(numbers)
		d.decide()
		return true
	}
	c, ok := codesOf(a)
	if !ok {
		return false
	}
	d.values, d.distinct = c.values, c.values.Len()
	null := int32(d.distinct)
	if c.int32s != nil && a.NullN() == 0 {
		d.codes = append(d.codes, c.int32s...)
	} else {
		for i := range d.rows {
			if a.IsNull(i) {
				d.codes = append(d.codes, null)
			} else {
				d.codes = append(d.codes, int32(c.at(i)))
			}
		}
	}
	d.decide()
	return true
}

func (d *dictState) bindNumbers(a *array.Uint16) {
	d.numeric = true
	if d.codeOf == nil {
		d.codeOf = make([]int32, 1<<16)
	}
	for i, n := range a.Uint16Values() {
		if a.IsNull(i) {
			d.codes = append(d.codes, -1)
			continue
		}
		code := d.codeOf[n]
		if code == 0 {
			d.numbers = append(d.numbers, n)
			code = int32(len(d.numbers))
			d.codeOf[n] = code
		}
		d.codes = append(d.codes, code-1)
	}
	d.distinct = len(d.numbers)
	for i, code := range d.codes {
		if code < 0 {
			d.codes[i] = int32(d.distinct)
		}
	}
}

func (d *dictState) bindList(a arrow.Array) bool {
	d.reset(a.Len())
	list, ok := a.(*array.List)
	if !ok {
		return false
	}
	c, ok := codesOf(list.ListValues())
	if !ok {
		return false
	}
	d.values, d.distinct = c.values, c.values.Len()
	for row := range d.rows {
		start, end := list.ValueOffsets(row)
		if start == end || list.IsNull(row) {
			d.codes, d.owner = append(d.codes, int32(d.distinct)), append(d.owner, int32(row))
			continue
		}
		for i := start; i < end; i++ {
			d.codes, d.owner = append(d.codes, int32(c.at(int(i)))), append(d.owner, int32(row))
		}
	}
	d.decide()
	return true
}

// decide counts the codes and gets the bits of each that occurs.
func (d *dictState) decide() {
	d.counts = resize(d.counts, d.distinct+1)
	clear(d.counts)
	for _, code := range d.codes {
		if uint32(code) > uint32(d.distinct) {
			d.fault = errors.New("a dictionary code is out of range: the batch is damaged")
			return
		}
		d.counts[code]++
	}
	if d.cached > maxCached {
		clear(d.cache)
		d.cached = 0
	}
	d.bits = resize(d.bits, d.distinct+1)
	clear(d.any)
	for code, n := range d.counts {
		if n == 0 {
			continue
		}
		if code == d.distinct {
			d.bits[code] = d.blank
		} else {
			d.bits[code] = d.lookup(code)
		}
		bitmap(d.any).or(d.bits[code])
	}
}

func (d *dictState) lookup(code int) []uint64 {
	v := value{number: d.numeric}
	if d.numeric {
		d.digits = strconv.AppendUint(d.digits[:0], uint64(d.numbers[code]), 10)
		v.text = alias(d.digits)
	} else {
		v.text = d.values.Value(code)
	}
	if bits, ok := d.cache[v.text]; ok {
		return bits
	}
	bits := make([]uint64, d.words)
	switch {
	case d.numeric:
		for _, t := range d.tests {
			if t.matcher.match(v, &d.found.buf) {
				bitmap(bits).set(t.bit)
			}
		}
	case d.finder != nil:
		for _, bit := range d.finder.find(v.text, &d.found) {
			bitmap(bits).set(int(bit))
		}
	}
	d.cached += len(v.text) + 8*len(bits) + 64 // about what the map takes
	d.cache[strings.Clone(v.text)] = bits      // the batch's memory goes, the key stays
	return bits
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/2)
	}
	return s[:n]
}

func (d *dictState) row(element int) int {
	if len(d.owner) > 0 {
		return int(d.owner[element])
	}
	return element
}

// post sorts the rows by code.
func (d *dictState) post() {
	d.posted = true
	d.starts = resize(d.starts, d.distinct+2)
	d.starts[0] = 0
	for code, n := range d.counts {
		d.starts[code+1] = d.starts[code] + n
	}
	d.postings = resize(d.postings, len(d.codes))
	next := d.counts // becomes the next free place of each code
	copy(next, d.starts)
	for i, code := range d.codes {
		d.postings[next[code]] = int32(d.row(i))
		next[code]++
	}
	for code := range d.counts {
		d.counts[code] = d.starts[code+1] - d.starts[code]
	}
}

// blankRows returns the rows that are null or empty.
func (d *dictState) blankRows() bitmap {
	if !d.known {
		d.known = true
		d.empty = resize(d.empty, words(d.rows))
		clear(d.empty)
		d.blanks(d.empty.set)
	}
	return d.empty
}

// blanks calls visit for each row that is null or empty.
func (d *dictState) blanks(visit func(row int)) {
	if !d.posted {
		d.post()
	}
	for _, row := range d.postings[d.starts[d.distinct]:d.starts[d.distinct+1]] {
		visit(int(row))
	}
}

// selectRows sets the rows that satisfy t in out, which must be empty. Rows for which t
// must consult the original bytes are left out.
func (d *dictState) selectRows(t *test, out bitmap) {
	if !d.posted {
		d.post()
	}
	// With every, one value that does not satisfy t is enough against a row.
	want := uint64(1)
	if t.every {
		want = 0
	}
	word, shift := t.bit>>6, t.bit&63
	for code := range d.distinct {
		if d.counts[code] == 0 || d.bits[code][word]>>shift&1 != want {
			continue
		}
		for _, row := range d.postings[d.starts[code]:d.starts[code+1]] {
			out.set(int(row))
		}
	}
	blank := d.counts[d.distinct] > 0 && bitmap(d.blank).has(t.bit)
	if !t.every {
		if blank {
			d.blanks(out.set)
		}
		return
	}
	if !blank {
		d.blanks(out.set)
	}
	var all [1]uint64
	for i := range out {
		bitmap(all[:]).fill(min(64, d.rows-i<<6))
		out[i] = all[0] &^ out[i]
	}
}

// is reports whether the row of a scalar column satisfies t.
func (d *dictState) is(t *test, row int) bool {
	return bitmap(d.bits[d.codes[row]]).has(t.bit)
}

// blankRow reports whether the row of a scalar column is null.
func (d *dictState) blankRow(row int) bool { return int(d.codes[row]) == d.distinct }
