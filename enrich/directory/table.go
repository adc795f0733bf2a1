package directory

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxText  = 256 << 20 // of a list
	maxValue = 2048      // of a field, in bytes
	maxItems = 100_000   // of a field with several values
)

// column is a field of a list.
type column struct {
	name    string
	aliases []string // as normal writes them
	several bool     // several values: separated by semicolons, or an array in JSON
}

// row is one person, group or range as it was written.
type row struct {
	line   int
	values map[string][]string // by name of the column; only what is not empty
}

func (r *row) one(name string) string {
	if v := r.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// normal writes the name of a column as aliases are: "Display Name", display_name and displayName are the same.
func normal(name string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(strings.TrimSpace(name)))
}

func find(columns []column, name string) *column {
	n := normal(name)
	for i := range columns {
		if n == normal(columns[i].name) || slices.Contains(columns[i].aliases, n) {
			return &columns[i]
		}
	}
	return nil
}

func names(columns []column) string {
	all := make([]string, len(columns))
	for i := range columns {
		all[i] = columns[i].name
	}
	return strings.Join(all, ", ")
}

// readText reads a whole list.
func (r *reader) readText(in io.Reader) ([]byte, bool) {
	text, err := io.ReadAll(io.LimitReader(in, maxText+1))
	if err != nil {
		r.fault(0, "", err.Error(), "check that the file can be read")
		return nil, false
	}
	if len(text) > maxText {
		r.fault(0, "", fmt.Sprintf("more than %d bytes", maxText), "split it and import each part under a --source of its own")
		return nil, false
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(text) {
		line := 1
		for rest := text; ; {
			c, size := utf8.DecodeRune(rest)
			if c == utf8.RuneError && size <= 1 {
				break
			}
			if c == '\n' {
				line++
			}
			rest = rest[size:]
		}
		r.fault(line, "", "not UTF-8", "save the file as UTF-8")
		return nil, false
	}
	return text, true
}

// rows yields what CSV or JSON has. Which of both it is, the first character says. inside names the member of a JSON object
// that may hold the array.
func (r *reader) rows(text []byte, columns []column, inside string, yield func(*row)) {
	first := bytes.TrimLeft(text, " \t\r\n")
	switch {
	case len(first) == 0:
		r.fault(0, "", "empty", "write a header row with the columns "+names(columns)+", or a JSON array")
	case first[0] == '[' || first[0] == '{':
		r.jsonRows(text, columns, inside, yield)
	default:
		r.csvRows(text, columns, yield)
	}
}

func (r *reader) csvRows(text []byte, columns []column, yield func(*row)) {
	c := csv.NewReader(bytes.NewReader(text))
	header, _, _ := bytes.Cut(text, []byte("\n"))
	c.Comma = separator(header)
	head, err := c.Read()
	if err != nil {
		r.csvFault(err)
		return
	}
	of := r.header(head, columns)
	if of == nil {
		return
	}
	for {
		record, err := c.Read()
		if err == io.EOF {
			return
		}
		if err != nil {
			r.csvFault(err)
			if errors.Is(err, csv.ErrFieldCount) {
				continue // the next line may be right
			}
			return
		}
		line, _ := c.FieldPos(0)
		w := &row{line: line, values: map[string][]string{}}
		for i, text := range record {
			if of[i] == nil {
				continue
			}
			at, _ := c.FieldPos(i)
			r.set(w, at, of[i], []string{text})
		}
		if len(w.values) > 0 { // a line of nothing but separators is how spreadsheets end
			yield(w)
		}
	}
}

// separator is what stands between the columns of the header: a comma, or what spreadsheets write in other countries.
func separator(header []byte) rune {
	comma, most := ',', bytes.Count(header, []byte(","))
	for _, c := range []rune{';', '\t'} {
		if n := bytes.Count(header, []byte(string(c))); n > most {
			comma, most = c, n
		}
	}
	return comma
}

func (r *reader) csvFault(err error) {
	var parse *csv.ParseError
	switch {
	case !errors.As(err, &parse):
		r.fault(0, "", err.Error(), "")
	case errors.Is(parse.Err, csv.ErrFieldCount):
		r.fault(parse.StartLine, "", "has another number of fields than the header", "separate as the header does, and put fields with the separator in them in double quotes")
	default:
		r.fault(parse.Line, "", parse.Err.Error(), "put fields with double quotes, separators or line ends in them in double quotes, and write a double quote as two")
	}
}

// header finds the columns of the header; nil if it is faulty.
func (r *reader) header(head []string, columns []column) []*column {
	of, known := make([]*column, len(head)), 0
	var unused []string
	for i, name := range head {
		if of[i] = find(columns, name); of[i] == nil {
			if strings.TrimSpace(name) != "" {
				unused = append(unused, quoted(name))
			}
			continue
		}
		known++
		if slices.Contains(of[:i], of[i]) {
			r.fault(1, name, "the column "+of[i].name+" is there twice", "leave one of them out or rename it")
			return nil
		}
	}
	if known == 0 {
		r.fault(1, "", "no known column in the first line, "+quoted(strings.Join(head, ",")), "begin with a header row; the columns are "+names(columns))
		return nil
	}
	if len(unused) > 0 {
		r.note("not used: %s; the columns are %s", strings.Join(unused, ", "), names(columns))
	}
	return of
}

// set gives a row the values of a column, split if it takes several.
func (r *reader) set(w *row, line int, c *column, texts []string) {
	var values []string
	for _, text := range texts {
		parts := []string{text}
		if c.several {
			parts = strings.Split(text, ";")
		}
		for _, part := range parts {
			part = strings.TrimSpace(part)
			if part == "" || c.several && slices.Contains(values, part) && len(values) < 100 {
				continue
			}
			if problem, remedy := checkText(part); problem != "" {
				r.fault(line, c.name, problem, remedy)
				return
			}
			values = append(values, part)
		}
	}
	if len(values) > maxItems {
		r.fault(line, c.name, fmt.Sprintf("more than %d values", maxItems), "split it")
		return
	}
	if len(values) > 0 {
		w.values[c.name] = values
	}
}

func checkText(text string) (problem, remedy string) {
	if len(text) > maxValue {
		return fmt.Sprintf("%s is longer than %d bytes", quoted(text), maxValue), "shorten it; a missing double quote may have joined lines"
	}
	if i := strings.IndexFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }); i >= 0 {
		return quoted(text) + " has a control character in it", "remove it; a missing double quote may have joined lines"
	}
	return "", ""
}

// jsonRows reads an array of objects, an object that has one, or objects one after the other.
func (r *reader) jsonRows(text []byte, columns []column, inside string, yield func(*row)) {
	d := &decoder{Decoder: json.NewDecoder(bytes.NewReader(text)), text: text}
	unused := map[string]bool{}
	object := func(raw json.RawMessage, line int) {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			r.fault(line, "", "want an object, got "+quoted(string(raw)), `write each as an object like {"`+columns[0].name+`": "…"}`)
		} else if w, ok := r.object(members, line, columns, unused); ok {
			yield(w)
		}
	}
	err := d.values(func(raw json.RawMessage, line int) {
		if raw[0] == '[' {
			elements(raw, line, object)
			return
		}
		var outer map[string]json.RawMessage
		if json.Unmarshal(raw, &outer) == nil && len(outer[inside]) > 0 && outer[inside][0] == '[' {
			before := raw[:bytes.Index(raw, outer[inside])]
			elements(outer[inside], line+bytes.Count(before, []byte("\n")), object)
			return
		}
		object(raw, line)
	})
	if err != nil {
		r.fault(d.line(), "", err.Error(), "write an array of objects, or an object on each line")
	}
	if len(unused) > 0 {
		all := slices.Sorted(maps.Keys(unused))
		for i := range all {
			all[i] = quoted(all[i])
		}
		r.note("not used: %s; the members are %s", strings.Join(all[:min(len(all), 20)], ", "), names(columns))
	}
}

// object makes a row of the members of an object.
func (r *reader) object(members map[string]json.RawMessage, line int, columns []column, unused map[string]bool) (*row, bool) {
	w := &row{line: line, values: map[string][]string{}}
	before := len(r.faults)
	from := map[*column]string{}
	keys := make([]string, 0, len(members))
	for name := range members {
		keys = append(keys, name)
	}
	slices.Sort(keys)
	for _, name := range keys {
		c := find(columns, name)
		if c == nil {
			if len(unused) < 1000 {
				unused[name] = true
			}
			continue
		}
		if other, twice := from[c]; twice {
			r.fault(line, name, "says the same as "+quoted(other), "leave one of them out")
			continue
		}
		from[c] = name
		texts, err := jsonTexts(members[name], c.several)
		if err != nil {
			r.fault(line, name, err.Error(), "write text in double quotes"+map[bool]string{true: ", or an array of such texts"}[c.several])
			continue
		}
		r.set(w, line, c, texts)
	}
	return w, len(r.faults) == before
}

// jsonTexts reads a value: a text, a number or a truth value; several in an array. null is nothing.
func jsonTexts(raw json.RawMessage, several bool) ([]string, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	items, isArray := v.([]any)
	if !isArray {
		items = []any{v}
	} else if !several {
		return nil, errors.New("want one value, got an array")
	}
	texts := make([]string, 0, len(items))
	for _, item := range items {
		switch item := item.(type) {
		case nil:
		case string:
			if isArray && strings.Contains(item, ";") {
				return nil, fmt.Errorf("%s has a semicolon in it", quoted(item)) // would be split
			}
			texts = append(texts, item)
		case json.Number:
			texts = append(texts, item.String())
		case bool:
			texts = append(texts, fmt.Sprint(item))
		default:
			return nil, errors.New("want a text, got " + quoted(string(raw)))
		}
	}
	return texts, nil
}

// decoder knows the line of what it read.
type decoder struct {
	*json.Decoder
	text    []byte
	counted int
	lines   int
}

func (d *decoder) line() int {
	at := min(int(d.InputOffset()), len(d.text))
	d.lines += bytes.Count(d.text[d.counted:at], []byte("\n"))
	d.counted = at
	return d.lines + 1
}

// values yields the values that follow each other, with their lines.
func (d *decoder) values(yield func(json.RawMessage, int)) error {
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		yield(raw, d.line()-bytes.Count(raw, []byte("\n")))
	}
}

// elements yields the elements of an array that begins on a line.
func elements(raw json.RawMessage, line int, yield func(json.RawMessage, int)) {
	in := &decoder{Decoder: json.NewDecoder(bytes.NewReader(raw)), text: raw}
	if _, err := in.Token(); err != nil {
		return // whoever found the array knows it to be one
	}
	for in.More() {
		var element json.RawMessage
		if err := in.Decode(&element); err != nil {
			return
		}
		yield(element, line+in.line()-1-bytes.Count(element, []byte("\n")))
	}
}
