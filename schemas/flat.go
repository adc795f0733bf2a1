package schemas

import "encoding/binary"

// flat reads the few FlatBuffers tables of an Arrow IPC message. A position outside the
// buffer gives zeros and sets bad, so that a caller checks once at the end.
type flat struct {
	b   []byte
	bad bool
}

func (f *flat) bytes(at, n int) []byte {
	if at < 0 || n < 0 || at > len(f.b)-n {
		f.bad = true
		return make([]byte, min(max(n, 0), 8))
	}
	return f.b[at : at+n]
}

func (f *flat) u16(at int) int   { return int(binary.LittleEndian.Uint16(f.bytes(at, 2))) }
func (f *flat) i32(at int) int   { return int(int32(binary.LittleEndian.Uint32(f.bytes(at, 4)))) }
func (f *flat) i64(at int) int64 { return int64(binary.LittleEndian.Uint64(f.bytes(at, 8))) }

// field returns where field i of the table at pos stands; 0 if it is absent.
func (f *flat) field(pos, i int) int {
	vtable := pos - f.i32(pos)
	if 4+2*i+2 > f.u16(vtable) {
		return 0
	}
	offset := f.u16(vtable + 4 + 2*i)
	if offset == 0 {
		return 0
	}
	return pos + offset
}

// table returns the position of the table or vector that the reference at pos leads to.
func (f *flat) table(pos int) int {
	if pos == 0 {
		f.bad = true
		return 0
	}
	return pos + f.i32(pos)
}

func (f *flat) int64Field(pos, i int) int64 {
	if at := f.field(pos, i); at != 0 {
		return f.i64(at)
	}
	return 0
}

func (f *flat) byteField(pos, i int) byte {
	if at := f.field(pos, i); at != 0 {
		return f.bytes(at, 1)[0]
	}
	return 0
}

// pairs calls each for every struct {int64, int64} of the vector in field i.
func (f *flat) pairs(pos, i int, each func(a, b int64)) {
	at := f.field(pos, i)
	if at == 0 {
		return
	}
	vector := f.table(at)
	n := f.i32(vector)
	if n < 0 || n > len(f.b)/16 {
		f.bad = true
		return
	}
	for k := range n {
		each(f.i64(vector+4+16*k), f.i64(vector+12+16*k))
	}
}
