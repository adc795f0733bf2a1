package schemas

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"
)

// lz4Writer compresses buffers to LZ4 frames, the form that Arrow's are in. What arrow-go and pierrec/lz4 write begins
// anew every 64 KiB; here a block takes all that fits, finds more repetitions, and copies nothing twice.
type lz4Writer struct {
	// table holds the last position of each hash, counted on from buffer to buffer: what an earlier buffer
	// left is too far away to be taken for a match, and the same buffer always gives the same bytes.
	table [1 << lz4HashBits]uint32
	base  uint32 // position of the next buffer
}

const (
	lz4HashBits  = 16
	lz4Window    = 1 << 16 // a match is less than that far away
	lz4LastBytes = 12      // of a block: no match begins there, by the format
	lz4End       = 5       // of a block: no match reaches into it
	lz4MinMatch  = 4
	lz4MaxBlock  = 4 << 20
	lz4MaxPlain  = lz4MaxBlock << 4 // of a base that is near its end
	lz4Spare     = 128
)

// lz4Search is how repetitions are looked for.
type lz4Search struct {
	factor uint64 // of the hash: its zeros at the end are bytes that do not count
	step   int    // from one place where nothing was found to the next
}

// Most repetitions of texts are long, so that those of fewer than seven bytes are not worth their tokens, and one is found
// again a byte later: a fifth faster than the search for numbers, and a fortieth smaller. Numbers are five bytes or few more.
//
//nolint:gochecknoglobals // constants, but for the language
var (
	lz4Texts   = lz4Search{factor: 0x3779b185ebca8700, step: 3}
	lz4Numbers = lz4Search{factor: 0xcf1bbcdcbb000000, step: 2}
)

// appendFrame appends src as a frame.
func (w *lz4Writer) appendFrame(dst, src []byte, search lz4Search) []byte {
	dst = append(dst, lz4Header(len(src))...)
	for len(src) > 0 {
		block := src[:min(len(src), lz4MaxBlock)]
		src = src[len(block):]
		at := len(dst)
		dst = w.appendBlock(append(dst, 0, 0, 0, 0), block, search)
		size := uint32(len(dst) - at - 4)
		if int(size) >= len(block) {
			dst = append(dst[:at+4], block...) // as it is
			size = uint32(len(block)) | 1<<31
		}
		binary.LittleEndian.PutUint32(dst[at:], size)
	}
	return append(dst, 0, 0, 0, 0)
}

// lz4Header returns the magic number, the flags (version 1, independent blocks, no checksums), the least maximum size of a
// block that will do, and the checksum of these two. The reader takes that much memory.
func lz4Header(size int) string {
	switch {
	case size <= 64<<10:
		return "\x04\x22\x4d\x18\x60\x40\x82"
	case size <= 256<<10:
		return "\x04\x22\x4d\x18\x60\x50\xfb"
	case size <= 1<<20:
		return "\x04\x22\x4d\x18\x60\x60\x51"
	}
	return "\x04\x22\x4d\x18\x60\x70\x73"
}

// appendBlock appends src as a block.
//
// It reads and writes through pointers, a third faster than through slices. What it reads: eight bytes at an index below
// len(src)−12 or before it; sixteen and more only where it asked before. What it writes: at most what a block can take,
// and 80 bytes beyond, for which there is room.
//
//nolint:cyclop // one loop, whose state the compiler keeps in registers
func (w *lz4Writer) appendBlock(dst, src []byte, search lz4Search) []byte {
	if w.base > 1<<32-1-lz4MaxPlain {
		w.table, w.base = [1 << lz4HashBits]uint32{}, 0
	}
	base := w.base + lz4Window // beyond the reach of matches
	w.base = base + uint32(len(src))
	dst = slices.Grow(dst, len(src)+len(src)/255+lz4Spare)
	in, out, o := unsafe.Pointer(unsafe.SliceData(src)), unsafe.Pointer(unsafe.SliceData(dst)), len(dst)
	anchor, table, factor, step := 0, &w.table, search.factor, search.step
	for i, last := 0, len(src)-lz4LastBytes; i < last; {
		x := load64(in, i)
		h, position := lz4Hash(x, factor), base+uint32(i)
		offset := int(position - table[h])
		table[h] = position
		if offset >= lz4Window || load32(in, i-offset) != uint32(x) {
			x >>= 8
			h = lz4Hash(x, factor)
			position++
			offset = int(position - table[h])
			table[h] = position
			if offset >= lz4Window || load32(in, i+1-offset) != uint32(x) {
				i += step + (i-anchor)>>6 // faster where nothing repeats
				continue
			}
			i++
		}
		end := lz4Extend(src, i+lz4MinMatch, offset)
		if i >= 8+offset { // a match may have begun earlier
			i -= min(bits.LeadingZeros64(load64(in, i-8)^load64(in, i-8-offset))>>3, i-anchor)
		}
		n, length := i-anchor, end-i-lz4MinMatch
		switch {
		case n < 15 && anchor+16 <= len(src):
			store8(out, o, byte(n<<4|min(length, 15)))
			*(*[16]byte)(unsafe.Add(out, o+1)) = *(*[16]byte)(unsafe.Add(in, anchor))
			o += 1 + n
		case n < 15+64 && anchor+80 <= len(src):
			store8(out, o, byte(15<<4|min(length, 15)))
			store8(out, o+1, byte(n-15))
			*(*[32]byte)(unsafe.Add(out, o+2)) = *(*[32]byte)(unsafe.Add(in, anchor))
			if n > 32 {
				*(*[48]byte)(unsafe.Add(out, o+34)) = *(*[48]byte)(unsafe.Add(in, anchor+32))
			}
			o += 2 + n
		default:
			o = len(lz4Literals(dst[:o], src[anchor:i], min(length, 15)))
		}
		*(*[2]byte)(unsafe.Add(out, o)) = [2]byte{byte(offset), byte(offset >> 8)}
		if o += 2; length >= 15 {
			o = len(lz4Rest(dst[:o], length-15))
		}
		if i, anchor = end, end; i < last {
			table[lz4Hash(load64(in, i-2), factor)] = base + uint32(i-2)
		}
	}
	return lz4Literals(dst[:o], src[anchor:], 0)
}

func load64(p unsafe.Pointer, i int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, i))[:])
}

func load32(p unsafe.Pointer, i int) uint32 {
	return binary.LittleEndian.Uint32((*[4]byte)(unsafe.Add(p, i))[:])
}

func store8(p unsafe.Pointer, i int, b byte) { *(*byte)(unsafe.Add(p, i)) = b }

func lz4Hash(x, factor uint64) uint64 { return x * factor >> (64 - lz4HashBits) }

// lz4Extend returns where the match that goes on at i ends.
func lz4Extend(src []byte, i, offset int) int {
	in, last := unsafe.Pointer(unsafe.SliceData(src)), len(src)-lz4End
	for ; i+8 <= last; i += 8 {
		if d := load64(in, i) ^ load64(in, i-offset); d != 0 {
			return i + bits.TrailingZeros64(d)>>3
		}
	}
	for i < last && src[i] == src[i-offset] {
		i++
	}
	return i
}

// lz4Literals appends a token with the length of the match, and literals.
func lz4Literals(dst, literals []byte, match int) []byte {
	dst = append(dst, byte(min(len(literals), 15)<<4|match))
	if len(literals) >= 15 {
		dst = lz4Rest(dst, len(literals)-15)
	}
	return append(dst, literals...)
}

// lz4Rest appends what of a length did not go into the token.
func lz4Rest(dst []byte, n int) []byte {
	for ; n >= 255; n -= 255 {
		dst = append(dst, 255)
	}
	return append(dst, byte(n))
}
