package conf

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// decodeText is the only conversion there is: from what the user wrote to the type of the
// field. It is strict where mapstructure is not (1.5 for an integer, 300 for a uint8).
func decodeText(from, to reflect.Value) (any, error) {
	switch v := from.Interface().(type) {
	case secretFile:
		return readSecret(string(v))
	case text:
		out := reflect.New(to.Type()).Elem()
		if err := parseInto(out, string(v)); err != nil {
			return nil, err
		}
		return out.Interface(), nil
	default:
		return v, nil
	}
}

func readSecret(path string) (Secret, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the secret: %w", err)
	}
	// Editors and echo end a file with a newline that is not part of the secret.
	s := strings.TrimRight(string(data), "\r\n")
	if s == "" {
		return "", fmt.Errorf("the file %s is empty", path)
	}
	return Secret(s), nil
}

func parseInto(out reflect.Value, s string) error {
	if out.Type() == reflect.TypeFor[time.Duration]() {
		d, err := ParseDuration(s)
		out.SetInt(int64(d))
		return err
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](out.Addr()); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch out.Kind() {
	case reflect.String:
		out.SetString(s)
	case reflect.Bool:
		if s != "true" && s != "false" {
			return fmt.Errorf("must be true or false, not %q", s)
		}
		out.SetBool(s == "true")
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(s, out.Type().Bits())
		if err != nil {
			return fmt.Errorf("must be a number, not %q", s)
		}
		out.SetFloat(f)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, out.Type().Bits())
		if err != nil {
			return integerError(s, err)
		}
		out.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(s, 10, out.Type().Bits())
		if err != nil {
			return integerError(s, err)
		}
		out.SetUint(n)
	default:
		return fmt.Errorf("cannot hold %q", s)
	}
	return nil
}

func integerError(s string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s is out of range", s)
	}
	return fmt.Errorf("must be an integer, not %q", s)
}
