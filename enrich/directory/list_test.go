package directory

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got)\n%s", path, diff)
	}
}

// read reads a file by what its name begins with.
func read(t *testing.T, path string) (*List, error) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name, in := filepath.Base(path), bytes.NewReader(text)
	switch what, _, _ := strings.Cut(name, "_"); strings.TrimSuffix(what, filepath.Ext(what)) {
	case "people":
		return ReadPeople(name, name, in, "oidc:{email}")
	case "groups":
		return ReadGroups(name, name, in)
	case "ranges":
		return ReadRanges(name, name, in)
	}
	t.Fatalf("%s: what is it?", name)
	return nil, nil
}

func files(t *testing.T, pattern string) (paths []string) {
	t.Helper()
	all, err := filepath.Glob(pattern)
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %v, %v", pattern, all, err)
	}
	for _, path := range all {
		if filepath.Ext(path) != ".golden" {
			paths = append(paths, path)
		}
	}
	return paths
}

func TestLists(t *testing.T) {
	for _, path := range files(t, "testdata/lists/*") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			list, err := read(t, path)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			for i := range list.Entries {
				e := &list.Entries[i]
				text, err := json.Marshal(e.Object)
				if err != nil {
					t.Fatal(err)
				}
				out.WriteString(e.Key.String() + " " + string(text) + "\n")
			}
			for _, note := range list.Notes {
				out.WriteString("note: " + note + "\n")
			}
			golden(t, path+".golden", out.Bytes())
		})
	}
}

// Each file has one fault, which its name says.
func TestFaults(t *testing.T) {
	for _, path := range files(t, "testdata/faults/*") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			list, err := read(t, path)
			var faults Faults
			if !errors.As(err, &faults) || len(faults) != 1 || list != nil {
				t.Fatalf("got %v, %v, want one fault", list, err)
			}
			if faults[0].Remedy == "" {
				t.Error("says not what to do about it")
			}
			golden(t, path+".golden", []byte(err.Error()+"\n"))
		})
	}
}

func TestAllFaults(t *testing.T) {
	text := "10.0.0.0/8\n" + strings.Repeat("x y\n", 30)
	_, err := ReadRanges("r", "r", strings.NewReader(text))
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 31 || !strings.HasSuffix(err.Error(), "\nr: 11 more faults") {
		t.Errorf("got %v", err)
	}
}

func TestTemplates(t *testing.T) {
	for text, good := range map[Template]bool{
		"oidc:{email}": true, "{localpart}": true, "x": false, "{nick}": false, "{email": false, "a{name}b{id}": true,
	} {
		if err := text.Check(UsernameFields(false)...); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
	in := `email,name` + "\n" + `ann@corp.example,` + "\n"
	list, err := ReadPeople("p", "p", strings.NewReader(in), "corp\\{localpart}", "{name}", "x:{email}")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`corp\ann`, "x:ann@corp.example"}, list.Entries[0].Object.Person.Usernames); diff != "" {
		t.Error(diff)
	}
}

// What a text is read as can be read again, is sorted, and has no key twice; and a list with a fault is none.
func FuzzLists(f *testing.F) {
	for _, pattern := range []string{"testdata/lists/*", "testdata/faults/*"} {
		all, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range all {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for what, read := range map[string]func() (*List, error){
			"people": func() (*List, error) {
				return ReadPeople("f", "f", bytes.NewReader(text), "oidc:{email}")
			},
			"groups": func() (*List, error) { return ReadGroups("f", "f", bytes.NewReader(text)) },
			"ranges": func() (*List, error) { return ReadRanges("f", "f", bytes.NewReader(text)) },
		} {
			list, err := read()
			if err != nil {
				if list != nil {
					t.Errorf("%s: a list and %v", what, err)
				}
				continue
			}
			seen := map[string]bool{}
			for _, e := range list.Entries {
				if seen[e.Key.String()] || e.Key.Name == "" || e.Line < 1 || e.Line > bytes.Count(text, []byte("\n"))+1 {
					t.Errorf("%s: %+v", what, e)
				}
				seen[e.Key.String()] = true
			}
		}
	})
}
