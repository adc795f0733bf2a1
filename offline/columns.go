package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// caseColumns returns the columns that a case gives to each of its events, in the order of CaseEvents.
func caseColumns(c *ir.Case) ([]object, error) {
	var all []object
	for i, given := range c.Events {
		var columns object
		if given.Columns != nil {
			decoder := json.NewDecoder(bytes.NewReader(given.Columns))
			decoder.UseNumber()
			if err := decoder.Decode(&columns); err != nil {
				return nil, fmt.Errorf("%s: columns of event %d of case %q: %w", c.Position, i+1, c.Name, err)
			}
		}
		for range max(given.Repeat, 1) {
			all = append(all, columns)
		}
	}
	return all, nil
}

// setColumns gives an event columns of who and why.
func setColumns(e *schemas.Event, columns object) error {
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		field, err := fieldOf(e, name)
		if err != nil {
			return err
		}
		if err := setField(e, field, columns[name]); err != nil {
			return fmt.Errorf("columns.%s: %w", name, err)
		}
	}
	return nil
}

// fieldOf returns the field of an event that a column of who or why is made of: their names differ in style only.
func fieldOf(e *schemas.Event, name string) (reflect.Value, error) {
	known := slices.ContainsFunc(schemas.Columns(), func(c schemas.Column) bool {
		return c.Name == name && (c.Group == schemas.GroupWho || c.Group == schemas.GroupWhy) && c.Path == ""
	})
	var camel strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		camel.WriteString(strings.ToUpper(part[:min(1, len(part))]) + part[min(1, len(part)):])
	}
	field := reflect.ValueOf(e).Elem().FieldByName(camel.String())
	if !known || !field.IsValid() {
		return field, fmt.Errorf("columns.%s: is no column of who and why; docs/fields.md lists them, and all else stands in the event", name)
	}
	return field, nil
}

func setField(e *schemas.Event, field reflect.Value, value any) error {
	switch into := field.Addr().Interface().(type) {
	case *string:
		text, err := columnText(value)
		*into = text
		return err
	case *[]string:
		list, ok := value.([]any)
		if !ok {
			return fmt.Errorf("must be a list, is %v", value)
		}
		*into = nil
		for _, v := range list {
			text, err := columnText(v)
			if err != nil {
				return err
			}
			*into = append(*into, text)
		}
		return nil
	case *[]schemas.KeyValue:
		entries, ok := value.(object)
		if !ok {
			return fmt.Errorf("must be a mapping, is %v", value)
		}
		*into = nil
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			text, err := columnText(entries[key])
			if err != nil {
				return err
			}
			*into = append(*into, schemas.KeyValue{Key: key, Value: text})
		}
		return nil
	}
	n, err := columnNumber(e, value)
	if err != nil {
		return err
	}
	if field.CanInt() {
		field.SetInt(n)
		return nil
	}
	if n < 0 || field.OverflowUint(uint64(n)) {
		return fmt.Errorf("%d is out of range", n)
	}
	field.SetUint(uint64(n))
	return nil
}

// columnText is a text, or true or false as the columns have them.
func columnText(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case bool:
		return map[bool]string{true: schemas.True, false: schemas.False}[value], nil
	case json.Number:
		return value.String(), nil
	}
	return "", fmt.Errorf("must be a text, is %v", value)
}

// columnNumber is a whole number, or a time: RFC 3339, or a duration from the event on.
func columnNumber(e *schemas.Event, value any) (int64, error) {
	switch value := value.(type) {
	case json.Number:
		n, err := value.Int64()
		if err != nil {
			return 0, fmt.Errorf("%s is no whole number", value)
		}
		return n, nil
	case string:
		if d, err := time.ParseDuration(value); err == nil {
			return e.EventTime + d.Microseconds(), nil
		}
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
			return schemas.Micros(at), nil
		}
	}
	return 0, fmt.Errorf("must be a number, a time or a duration from the event on such as -12m, is %v", value)
}
