package conf

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

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
