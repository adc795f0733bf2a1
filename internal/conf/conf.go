// Package conf turns a configuration file, the environment and command-line settings into
// one typed struct.
//
// Comes in: a struct of defaults, a YAML file, variables named AUDITMILL_*, and
// "key=value" settings. Goes out: the struct, filled and validated, or an *Error with
// every fault at once. Guaranteed: a setting outranks the environment, which outranks the
// file, which outranks the default; a misspelt key or variable is a fault and never
// ignored; a list replaces the default list; no secret is printed or taken from the
// command line. This is the only package that knows viper.
//
// # Tags
//
// Every exported field has the tag mapstructure with its key in snake case ("-" hides the
// field) and the tag doc with the sentence that the reference prints:
//
//	Brokers []string `mapstructure:"brokers" doc:"addresses of the first brokers, host:port"`
//
// Fields may be strings, booleans, numbers, time.Duration, Bytes, Secret, types with
// UnmarshalText, structs of these, and lists of these and of structs. Maps are refused,
// because viper lower-cases their keys: use a list of structs.
package conf

import (
	"fmt"
	"maps"
	"reflect"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

const (
	envPrefix = "AUDITMILL_"
	// delimiter separates the parts of a key inside viper. With viper's default, the dot,
	// keys that hold a dot cannot be decoded.
	delimiter = "::"
)

// Options says where Load reads from.
type Options struct {
	// File is the path of a YAML file; empty for none. A file that is missing is a fault.
	File string
	// Env is the environment as os.Environ gives it; nil for none. A variable with an
	// empty value counts as not set.
	Env []string
	// OtherEnv names variables with our prefix that are not keys, such as the one that
	// holds the path of the file.
	OtherEnv []string
	// Set holds command-line settings of the form key=value, in order of rank: the last
	// one wins.
	Set []string
	// Sections names the top-level keys that are validated; empty for all. A service
	// reads a file that configures all of them, and answers only for its own part.
	Sections []string
}

// Load fills a copy of defaults from all sources and validates it. Each struct that has a
// method Validate() error is asked, from the outside in; one that answers vouches for
// what it holds. An error is always an *Error.
func Load[T any](defaults T, opts Options) (T, error) {
	root, err := schemaOf(reflect.TypeFor[T]())
	if err != nil {
		return defaults, &Error{Faults: []Fault{{Err: err}}}
	}
	r := &reader{root: root, origins: map[string]string{}, faulty: map[string]bool{}}
	v := viper.NewWithOptions(viper.KeyDelimiter(delimiter))
	for _, l := range []layer{r.readFile(opts.File), r.readEnv(opts.Env, opts.OtherEnv)} {
		r.merge(v, l)
	}
	for _, l := range r.readSettings(opts.Set) {
		r.override(v, l)
	}

	cfg := defaults
	clearLists(reflect.ValueOf(&cfg).Elem(), root, v)
	err = v.UnmarshalExact(&cfg, func(dc *mapstructure.DecoderConfig) {
		dc.DecodeHook = decodeText
		dc.WeaklyTypedInput = false
	})
	r.decodeFaults(err)
	r.validate(reflect.ValueOf(cfg), opts.Sections)
	if len(r.faults) > 0 {
		return defaults, &Error{Faults: r.faults}
	}
	return cfg, nil
}

// layer holds what one source gives: values by the full key of a leaf.
type layer struct {
	values  map[string]any
	origins map[string]string
}

func newLayer() layer {
	return layer{values: map[string]any{}, origins: map[string]string{}}
}

// merge puts a layer above what viper's configuration holds so far. Environment variables
// enter here and not by viper.AutomaticEnv, which can tell neither an unknown variable nor
// the one that holds a wrong value.
func (r *reader) merge(v *viper.Viper, l layer) {
	nested := map[string]any{}
	for key, value := range l.values {
		at := nested
		parts := strings.Split(key, ".")
		for _, part := range parts[:len(parts)-1] {
			next, ok := at[part].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[part] = next
			}
			at = next
		}
		at[parts[len(parts)-1]] = value
	}
	if err := v.MergeConfigMap(nested); err != nil {
		r.fault("", "", fmt.Errorf("merging the configuration: %w", err))
	}
	r.adopt(l)
}

// override puts a layer at viper's highest rank.
func (r *reader) override(v *viper.Viper, l layer) {
	for key, value := range l.values {
		v.Set(strings.ReplaceAll(key, ".", delimiter), value)
	}
	r.adopt(l)
}

// adopt remembers where the values come from. A list that replaces another one takes the
// places of all its items with it.
func (r *reader) adopt(l layer) {
	for key := range l.values {
		maps.DeleteFunc(r.origins, func(k, _ string) bool {
			return k == key || strings.HasPrefix(k, key+"[")
		})
	}
	maps.Copy(r.origins, l.origins)
}

// clearLists empties the lists that a source gives. The decoder would otherwise write into
// the elements of the default list, which the caller's defaults share.
func clearLists(val reflect.Value, f *field, v *viper.Viper) {
	switch f.kind {
	case section:
		for _, sub := range f.fields {
			clearLists(val.Field(sub.index), sub, v)
		}
	case list, structs:
		if v.IsSet(strings.ReplaceAll(f.key, ".", delimiter)) {
			val.SetZero()
		}
	default: // a single value is replaced as a whole
	}
}

// decodeFaults adds the decoder's complaints, each at the place its value came from. It walks
// the tree itself, because errors.As would stop at the first complaint.
func (r *reader) decodeFaults(err error) {
	switch e := err.(type) { //nolint:errorlint // see above
	case nil:
	case *mapstructure.DecodeError:
		r.fault(e.Name(), r.origins[e.Name()], e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			r.decodeFaults(one)
		}
	case interface{ Unwrap() error }:
		r.decodeFaults(e.Unwrap())
	default:
		r.fault("", "", err)
	}
}
