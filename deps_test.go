// Package auditmill_test holds what is true of the module as a whole: which package may know
// which. DESIGN.md says it in words, the linter checks it file by file, and these tests check it
// for everything that a package reaches through others.
package auditmill_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/auditmill/auditmill"

// Patterns name a package, or with /... a package and all below it. Those without a dot in their
// first element are of this module.

// A wall keeps from out of to: not even through other packages may it get there. Its tests may,
// unless the wall is for them too.
type wall struct {
	from, to, why string
	testsToo      bool
}

// A monopoly lets only the holders import a package themselves. Tests may always.
type monopoly struct {
	pkg     string
	holders []string
	why     string
}

func services() []string { return []string{"ingest", "enrich", "alert", "load"} }

func walls() []wall {
	all := []wall{
		{"ingest/...", clickhouse, "the front door writes to Kafka only, and should carry no more than that", false},
		{"enrich/...", clickhouse, "a slow ClickHouse must not be able to hold up enrichment", false},
		{"alert/...", clickhouse, "an alert is posted whether ClickHouse is there or not", false},
		{"ingest/...", slack, "only alert speaks to people", false},
		{"enrich/...", slack, "only alert speaks to people", false},
		{"load/...", slack, "only alert speaks to people", false},
		{"alert/rule/...", franz, "rules take columns and return matches, so that a backtest runs the same engine", false},
		{"schemas", franz, "a contract does no I/O", false},
		{"watch/...", clickhouse, "who has credentials of clusters needs no others", false},
		{"watch/...", slack, "only alert speaks to people", false},
		{"watch/...", "enrich", "the watch tells the context, and does not enrich; they share the context and its feed", true},
		{"watch/...", "ingest/...", "services meet in topics, and schemas has the topics' contracts", true},
		{"watch/...", "alert/...", "services meet in topics, and schemas has the topics' contracts", true},
		{"watch/...", "load/...", "services meet in topics, and schemas has the topics' contracts", true},
		{"watch/...", "cmd/...", "commands are put together from packages, not the other way round", true},
		{"watch/...", cobra, "flags and help belong to the commands; a service gets a Config", false},
		{"internal/...", "watch/...", "plumbing serves every service, so it can know none", true},
		{"schemas", "watch/...", "a contract cannot depend on one of its parties", true},
		{"schemas", "internal/...", "a contract depends on nothing that may change under it", false},
		{"internal/...", "schemas", "plumbing moves bytes and knows no audit event", true},
		{"internal/...", "cmd/...", "commands are put together from packages, not the other way round", true},
	}
	for _, from := range services() {
		for _, to := range services() {
			if from != to {
				all = append(all, wall{
					from + "/...", to + "/...",
					"services meet in topics, and schemas has the topics' contracts; " +
						"otherwise they could not be deployed, scaled or tested one by one", true,
				})
			}
		}
		all = append(all,
			wall{"internal/...", from + "/...", "plumbing serves every service, so it can know none", true},
			wall{"schemas", from + "/...", "a contract cannot depend on one of its parties", true},
			wall{from + "/...", "watch/...", "services meet in topics, and schemas has the topics' contracts", true},
			wall{from + "/...", clientGo, "credentials of clusters are for the watch alone", false},
			wall{from + "/...", "cmd/...", "commands are put together from packages, not the other way round", true},
			wall{from + "/...", "internal/embedded/...", "a service speaks to any Kafka and ClickHouse; the command says which", false},
			wall{from + "/...", cobra, "flags and help belong to the commands; a service gets a Config", false})
	}
	return all
}

const (
	clickhouse = "github.com/ClickHouse/clickhouse-go/v2/..."
	slack      = "github.com/slack-go/slack/..."
	franz      = "github.com/twmb/franz-go/..."
	kfake      = "github.com/twmb/franz-go/pkg/kfake/..."
	clientGo   = "k8s.io/client-go/..."
	cobra      = "github.com/spf13/cobra/..."
	arrow      = "github.com/apache/arrow-go/v18/..."
	arrowCodec = "github.com/pierrec/lz4/v4/..." // part of Arrow's format; arrow-go uses it too, but does not export it
)

func monopolies() []monopoly {
	return []monopoly{
		{
			"github.com/spf13/viper/...",
			[]string{"internal/conf"},
			"viper is lax by nature; conf makes strict typed structs of it, once",
		},
		{
			clickhouse,
			[]string{"load/..."},
			"the promise of exactly once lives in load; a second writer would break it",
		},
		{slack, []string{"alert/notify/..."}, "what was posted where is remembered in one place"},
		{
			"github.com/twmb/franz-go/pkg/kgo/...",
			[]string{
				"internal/kafka/...", "internal/embedded/...",
				"ingest/...", "enrich", "enrich/feed", "alert", "alert/notify/...", "alert/correlate", "load/...", "watch", "offline", "cmd/auditmill",
			},
			"what decodes, joins and matches takes values and returns values",
		},
		{clientGo, []string{"watch/..."}, "credentials of clusters are for the watch alone, and so is a library that large"},
		{"k8s.io/apimachinery/...", []string{"watch/..."}, "events and objects are read as bytes; only client-go wants Kubernetes' own types"},
		{kfake, []string{"internal/embedded/..."}, "the embedded broker is chosen by the command, and started in one place"},
		{cobra, []string{"cmd/auditmill"}, "flags and help belong to the commands"},
		{
			"github.com/oschwald/maxminddb-golang/v2/...",
			[]string{"enrich/origin"},
			"files from outside are read, bounded and cleaned in one place",
		},
		{
			"github.com/ebitengine/purego/...",
			[]string{"internal/embedded/..."},
			"calls into a foreign library can crash the process, so they happen in the engine's own process",
		},
	}
}

// pure packages import none of the packages through which the world comes in.
func pure() (pkgs, world []string) {
	return []string{"schemas", "alert/rule", "alert/rule/ir", "alert/rule/sigma", "alert/rule/falco"},
		[]string{"net", "net/http", "os", "os/exec", "database/sql"}
}

func TestImports(t *testing.T) {
	g := readGraph(t)
	t.Run("walls", func(t *testing.T) { testWalls(t, g) })
	t.Run("monopolies", func(t *testing.T) { testMonopolies(t, g) })
	t.Run("pure packages", func(t *testing.T) { testPurePackages(t, g) })
	t.Run("schemas", func(t *testing.T) { testSchemas(t, g) })
	t.Run("one main", func(t *testing.T) { testOneMain(t, g) })
}

func testWalls(t *testing.T, g graph) {
	t.Helper()
	for _, w := range walls() {
		g.mustExist(t, w.from)
		g.mustExist(t, w.to)
		for _, way := range g.breaches(w) {
			t.Errorf("%s\n\tmust not be: %s", way, w.why)
		}
	}
}

func testMonopolies(t *testing.T, g graph) {
	t.Helper()
	for _, m := range monopolies() {
		g.mustExist(t, m.pkg)
		for _, holder := range m.holders {
			g.mustExist(t, holder)
		}
		for _, p := range g.own() {
			if m.heldBy(p) {
				continue
			}
			for _, imported := range p.Imports {
				if matches(m.pkg, imported) {
					t.Errorf("%s imports %s\n\tonly %s may: %s",
						p.ImportPath, imported, strings.Join(m.holders, ", "), m.why)
				}
			}
		}
	}
}

func (m monopoly) heldBy(p pkg) bool {
	return slices.ContainsFunc(m.holders, func(h string) bool { return matches(h, p.ImportPath) })
}

func testPurePackages(t *testing.T, g graph) {
	t.Helper()
	pkgs, world := pure()
	for _, pattern := range pkgs {
		g.mustExist(t, pattern)
		for _, p := range g.own() {
			for _, imported := range p.Imports {
				if matches(pattern, p.ImportPath) && slices.Contains(world, imported) {
					t.Errorf("%s imports %s\n\tit takes values and returns values: no I/O", p.ImportPath, imported)
				}
			}
		}
	}
}

func testSchemas(t *testing.T, g graph) {
	t.Helper()
	g.mustExist(t, arrow)
	g.mustExist(t, arrowCodec)
	for _, imported := range g.pkgs[module+"/schemas"].Imports {
		if !g.pkgs[imported].Standard && !matches(arrow, imported) && !matches(arrowCodec, imported) {
			t.Errorf("schemas imports %s\n\tevery service and every reader of the contracts would depend on it", imported)
		}
	}
}

func testOneMain(t *testing.T, g graph) {
	t.Helper()
	var mains []string
	for _, p := range g.own() {
		if p.Name == "main" {
			mains = append(mains, p.ImportPath)
		}
	}
	if diff := cmp.Diff([]string{module + "/cmd/auditmill"}, mains); diff != "" {
		t.Errorf("packages main (-want +got):\n%s", diff)
	}
}

func TestBreachesAreFound(t *testing.T) {
	g := graph{pkgs: map[string]pkg{
		module + "/alert":        {ImportPath: module + "/alert", Imports: []string{module + "/internal/x"}},
		module + "/alert/notify": {ImportPath: module + "/alert/notify", TestImports: []string{module + "/load"}},
		module + "/alerting":     {ImportPath: module + "/alerting", Imports: []string{module + "/load"}},
		module + "/internal/x":   {ImportPath: module + "/internal/x", Imports: []string{"example.com/y"}},
		"example.com/y":          {ImportPath: "example.com/y", Imports: []string{module + "/load/batch"}},
		module + "/load":         {ImportPath: module + "/load"},
		module + "/load/batch":   {ImportPath: module + "/load/batch"},
	}}
	got := g.breaches(wall{from: "alert/...", to: "load/...", testsToo: true})
	want := []string{
		"alert -> internal/x -> example.com/y -> load/batch",
		"alert/notify -> load",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("breaches (-want +got):\n%s", diff)
	}
}

// graph is the packages of this module and everything they import, as the go command sees them.
type graph struct {
	pkgs    map[string]pkg
	modules []string // required by go.mod
}

type pkg struct {
	ImportPath, Name                   string
	Standard                           bool
	Imports, TestImports, XTestImports []string
}

func readGraph(t *testing.T) graph {
	t.Helper()
	g := graph{pkgs: map[string]pkg{}}
	list := goCommand(t, "list", "-deps", "-json=ImportPath,Name,Standard,Imports,TestImports,XTestImports", "./...")
	for dec := json.NewDecoder(strings.NewReader(list)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("reading go list: %v", err)
		}
		g.pkgs[p.ImportPath] = p
	}
	var mod struct{ Require []struct{ Path string } }
	if err := json.Unmarshal([]byte(goCommand(t, "mod", "edit", "-json")), &mod); err != nil {
		t.Fatalf("reading go mod edit: %v", err)
	}
	for _, r := range mod.Require {
		g.modules = append(g.modules, r.Path)
	}
	return g
}

func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// own returns the packages of this module, in the order of their names.
func (g graph) own() []pkg {
	var own []pkg
	for _, path := range slices.Sorted(maps.Keys(g.pkgs)) {
		if path == module || strings.HasPrefix(path, module+"/") {
			own = append(own, g.pkgs[path])
		}
	}
	return own
}

// mustExist fails the test for a pattern that no longer names anything: such a rule guards
// nothing, and whoever renamed or removed the package should say what becomes of it.
func (g graph) mustExist(t *testing.T, pattern string) {
	t.Helper()
	for path := range g.pkgs {
		if matches(pattern, path) {
			return
		}
	}
	// A module may be required for tests alone.
	path := strings.TrimSuffix(pattern, "/...")
	for _, m := range g.modules {
		if path == m || strings.HasPrefix(path, m+"/") || strings.HasPrefix(m, path+"/") {
			return
		}
	}
	t.Errorf("%s is neither a package of the module nor one that go.mod knows: change or remove its rule", pattern)
}

// breaches returns the shortest way from each package on one side of the wall to the other side.
func (g graph) breaches(w wall) []string {
	var ways []string
	for _, p := range g.own() {
		if !matches(w.from, p.ImportPath) {
			continue
		}
		if way := g.way(p, w); way != nil {
			ways = append(ways, strings.ReplaceAll(strings.Join(way, " -> "), module+"/", ""))
		}
	}
	return ways
}

func (g graph) way(from pkg, w wall) []string {
	cameFrom := map[string]string{from.ImportPath: ""}
	queue := []string{from.ImportPath}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		if at != from.ImportPath && matches(w.to, at) {
			var way []string
			for ; at != ""; at = cameFrom[at] {
				way = append(way, at)
			}
			slices.Reverse(way)
			return way
		}
		next := g.pkgs[at].Imports
		if at == from.ImportPath && w.testsToo {
			next = slices.Concat(next, from.TestImports, from.XTestImports)
		}
		for _, n := range next {
			if _, seen := cameFrom[n]; !seen {
				cameFrom[n] = at
				queue = append(queue, n)
			}
		}
	}
	return nil
}

// matches tells whether the pattern names the package.
func matches(pattern, path string) bool {
	if first, _, _ := strings.Cut(pattern, "/"); !strings.Contains(first, ".") {
		pattern = module + "/" + pattern
	}
	prefix, tree := strings.CutSuffix(pattern, "/...")
	return path == prefix || tree && strings.HasPrefix(path, prefix+"/")
}
