package conf

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Print writes a configuration as YAML with secrets masked: what Load would have to read to
// give it again, apart from the secrets.
func Print(w io.Writer, cfg any) error {
	return write(w, cfg, false)
}

// Example writes a configuration as Print does, with the doc of every key above it.
func Example(w io.Writer, cfg any) error {
	return write(w, cfg, true)
}

func write(w io.Writer, cfg any, comments bool) error {
	root, err := schemaOf(reflect.TypeOf(cfg))
	if err != nil {
		return err
	}
	node, err := nodeOf(reflect.ValueOf(cfg), root, comments)
	if err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return enc.Close()
}

func nodeOf(v reflect.Value, f *field, comments bool) (*yaml.Node, error) {
	switch f.kind {
	case section:
		return mappingOf(v, f, comments)
	case structs, list:
		seq := &yaml.Node{Kind: yaml.SequenceNode}
		if v.Len() == 0 || f.kind == list {
			seq.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			item, err := itemOf(v.Index(i), f)
			if err != nil {
				return nil, err
			}
			seq.Content = append(seq.Content, item)
		}
		return seq, nil
	default:
		return scalarOf(v)
	}
}

func itemOf(v reflect.Value, f *field) (*yaml.Node, error) {
	if f.kind == structs {
		return mappingOf(v, f, false)
	}
	return scalarOf(v)
}

func mappingOf(v reflect.Value, f *field, comments bool) (*yaml.Node, error) {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, sub := range f.fields {
		value, err := nodeOf(v.Field(sub.index), sub, comments)
		if err != nil {
			return nil, err
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: sub.name}
		if comments {
			key.HeadComment = sub.doc
		}
		m.Content = append(m.Content, key, value)
	}
	return m, nil
}

func scalarOf(v reflect.Value) (*yaml.Node, error) {
	s, err := format(v)
	if err != nil {
		return nil, err
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: s}
	if v.Kind() == reflect.String || isText(v) {
		// The encoder adds quotes where the text would otherwise read as another type.
		node.SetString(s)
	}
	return node, nil
}

func isText(v reflect.Value) bool {
	_, ok := v.Interface().(encoding.TextMarshaler)
	return ok
}

// format writes a scalar as its field would read it; a secret is masked.
func format(v reflect.Value) (string, error) {
	switch x := v.Interface().(type) {
	case time.Duration:
		return formatDuration(x), nil
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return "", fmt.Errorf("writing a %s: %w", v.Type(), err)
		}
		return string(b), nil
	}
	return fmt.Sprint(v.Interface()), nil
}

// Reference writes a Markdown reference of all keys of a configuration, one table per
// top-level section, with the values of defaults.
func Reference[T any](w io.Writer, defaults T) error {
	root, err := schemaOf(reflect.TypeFor[T]())
	if err != nil {
		return err
	}
	var b strings.Builder
	v := reflect.ValueOf(defaults)
	top := &field{kind: section}
	for _, f := range root.fields {
		if f.kind != section {
			top.fields = append(top.fields, f)
		}
	}
	if len(top.fields) > 0 {
		if err := table(&b, v, top); err != nil {
			return err
		}
	}
	for _, f := range root.fields {
		if f.kind != section {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", f.key)
		if f.doc != "" {
			fmt.Fprintf(&b, "%s\n\n", sentence(f.doc))
		}
		if err := table(&b, v.Field(f.index), f); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, strings.TrimLeft(b.String(), "\n"))
	return err
}

func table(b *strings.Builder, v reflect.Value, f *field) error {
	b.WriteString("| key | type | default | environment | meaning |\n|---|---|---|---|---|\n")
	return rows(b, v, f, false)
}

func rows(b *strings.Builder, v reflect.Value, f *field, inList bool) error {
	for _, sub := range f.fields {
		var value reflect.Value
		if v.IsValid() {
			value = v.Field(sub.index)
		}
		if sub.kind == section {
			if err := rows(b, value, sub, inList); err != nil {
				return err
			}
			continue
		}
		if err := row(b, value, sub, inList); err != nil {
			return err
		}
		if sub.kind == structs {
			if err := rows(b, reflect.Value{}, sub, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func row(b *strings.Builder, v reflect.Value, f *field, inList bool) error {
	key, env := f.key, "`"+strings.Join(f.envNames(), "`, `")+"`"
	if f.kind == secret {
		key += "`, `" + f.key + "_file"
	}
	if inList {
		env = ""
	}
	def := ""
	if v.IsValid() && f.kind != secret {
		node, err := nodeOf(v, f, false)
		if err != nil {
			return err
		}
		node.Style = yaml.FlowStyle
		text, err := yaml.Marshal(node)
		if err != nil {
			return fmt.Errorf("writing the default of %s: %w", f.key, err)
		}
		def = "`" + strings.TrimSpace(string(text)) + "`"
	}
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	_, err := fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n",
		key, f.typeName(), cell.Replace(def), env, cell.Replace(sentence(f.doc)))
	return err
}

func sentence(doc string) string {
	if doc == "" {
		return ""
	}
	doc = strings.ToUpper(doc[:1]) + doc[1:]
	if !strings.HasSuffix(doc, ".") {
		doc += "."
	}
	return doc
}
