package rule

// automaton finds all of many literals in one pass over a text (Aho and Corasick). It is immutable.
type automaton struct {
	class   [256]uint8 // of each byte; bytes of no literal share class 0
	classes int
	// next is by state × classes + class: where to go. The complement of a state says that literals end there.
	next []int32
	out  [][]atom // by state
}

// atom is a literal that tells of a test.
type atom struct {
	literal string
	form    globForm // globContains, globPrefix or globSuffix
	test    int32    // its index in the finder
	verify  bool     // the literal is necessary only: the test's matcher must decide
}

// newAutomaton returns nil if there are no atoms.
func newAutomaton(atoms []atom) *automaton {
	if len(atoms) == 0 {
		return nil
	}
	a := &automaton{classes: 1}
	for _, at := range atoms {
		for _, b := range []byte(at.literal) {
			if a.class[b] == 0 && a.classes < 256 {
				a.class[b] = uint8(a.classes)
				a.classes++
			}
		}
	}
	a.grow()
	for _, at := range atoms {
		state := int32(0)
		for _, b := range []byte(at.literal) {
			cell := &a.next[int(state)*a.classes+int(a.class[b])]
			if *cell == 0 {
				to := int32(len(a.out))
				*cell = to
				a.grow() // moves the cells
				state = to
				continue
			}
			state = *cell
		}
		a.out[state] = append(a.out[state], at)
	}
	a.link()
	return a
}

func (a *automaton) grow() {
	a.out = append(a.out, nil)
	a.next = append(a.next, make([]int32, a.classes)...)
}

// link completes the trie: where a literal fails, the longest end of what was read goes on.
func (a *automaton) link() {
	fail := make([]int32, len(a.out))
	queue := []int32{0}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		for class := range a.classes {
			cell := &a.next[int(state)*a.classes+class]
			other := a.next[int(fail[state])*a.classes+class]
			switch {
			case *cell == 0:
				*cell = other // of the root: itself
			case state != 0:
				fail[*cell] = other
				a.out[*cell] = append(a.out[*cell], a.out[other]...)
				queue = append(queue, *cell)
			default:
				queue = append(queue, *cell)
			}
		}
	}
	for i, state := range a.next {
		if len(a.out[state]) > 0 {
			a.next[i] = ^state
		}
	}
}

// scan calls visit for each atom that text has in its form; more than once if it has it more than once.
func (a *automaton) scan(text string, visit func(*atom)) {
	state := int32(0)
	for i := range len(text) {
		state = a.next[int(state)*a.classes+int(a.class[text[i]])]
		if state >= 0 {
			continue
		}
		state = ^state
		for j := range a.out[state] {
			at := &a.out[state][j]
			if at.form == globContains || at.form == globPrefix && i+1 == len(at.literal) ||
				at.form == globSuffix && i+1 == len(text) {
				visit(at)
			}
		}
	}
}
