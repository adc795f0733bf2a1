package rule

import "math/bits"

// bitmap is a set of rows. All bitmaps of one batch have the same length, and no bit
// above the last row is ever set.
type bitmap []uint64

func words(rows int) int { return (rows + 63) / 64 }

func (b bitmap) has(i int) bool { return b[i>>6]&(1<<(i&63)) != 0 }
func (b bitmap) set(i int)      { b[i>>6] |= 1 << (i & 63) }

// fill makes b the set of all rows.
func (b bitmap) fill(rows int) {
	for i := range b {
		b[i] = ^uint64(0)
	}
	if rest := rows & 63; rest != 0 {
		b[len(b)-1] = 1<<rest - 1
	}
}

func (b bitmap) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

func (b bitmap) count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

func (b bitmap) and(c bitmap) {
	for i, w := range c {
		b[i] &= w
	}
}

func (b bitmap) or(c bitmap) {
	for i, w := range c {
		b[i] |= w
	}
}

func (b bitmap) andNot(c bitmap) {
	for i, w := range c {
		b[i] &^= w
	}
}

// each calls visit for every row of b, in order.
func (b bitmap) each(visit func(row int)) {
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			visit(i<<6 + bits.TrailingZeros64(w))
		}
	}
}
