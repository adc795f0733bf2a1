package conf

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
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
	_, ok := reflect.TypeAssert[encoding.TextMarshaler](v)
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
