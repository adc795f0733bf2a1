package watch

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/conf"
)

func TestConfigFaultsNameTheirKeys(t *testing.T) {
	good := func() Config {
		c := DefaultConfig()
		c.Clusters = []Cluster{{Name: "a", Kubeconfig: "f"}, {Name: "b", InCluster: true}}
		return c
	}
	for name, tt := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"good":             {func(*Config) {}, ""},
		"no name":          {func(c *Config) { c.Clusters[0].Name = "" }, "clusters[0].name: must not be empty"},
		"the organization": {func(c *Config) { c.Clusters[0].Name = "*" }, `clusters[0].name: "*" is no name`},
		"a slash":          {func(c *Config) { c.Clusters[0].Name = "a/b" }, `clusters[0].name: "a/b" is no name`},
		"twice":            {func(c *Config) { c.Clusters[1].Name = "a" }, `clusters[1].name: "a" is the name of clusters[0]`},
		"no way":           {func(c *Config) { c.Clusters[0].Kubeconfig = "" }, "clusters[0].kubeconfig: must name a file"},
		"two ways":         {func(c *Config) { c.Clusters[1].Context = "x" }, "clusters[1].in_cluster: excludes"},
		"no kinds":         {func(c *Config) { c.Kinds = nil }, "kinds: must name at least one of roles, "},
		"secrets":          {func(c *Config) { c.Kinds = append(c.Kinds, "secrets") }, `kinds[10]: "secrets" is none of`},
		"a kind twice":     {func(c *Config) { c.Kinds = append(c.Kinds, "roles") }, `kinds[10]: "roles" is there twice`},
		"waits too long":   {func(c *Config) { c.Wait = time.Hour }, "wait: must be 0 to 5m0s"},
		"lists too often":  {func(c *Config) { c.Resync = time.Second }, "resync: must be 0 or at least 1m0s"},
		"no group":         {func(c *Config) { c.Group = "" }, "group: must not be empty"},
		"no page":          {func(c *Config) { c.PageSize = 0 }, "page_size: must be 1 to 10000"},
	} {
		c := good()
		tt.spoil(&c)
		_, err := conf.Load(c, conf.Options{})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	if _, err := New(DefaultConfig(), Deps{}); err == nil || !strings.Contains(err.Error(), "watch.clusters") {
		t.Errorf("without clusters: %v", err)
	}
}

// Everything in a page is accounted for, also what cannot be read.
func TestReadPage(t *testing.T) {
	p, err := readPage(context.Role, []byte(`{"metadata":{"resourceVersion":"7","continue":"x"},"items":[
		{"metadata":{"name":"a","namespace":"n","resourceVersion":"5","managedFields":[{}]},"rules":[{"verbs":["get"]}]},
		{"metadata":{"name":"b","namespace":"n"},"rules":"none"},{"metadata":{"name":"c"}},7]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range p.Items {
		got = append(got, p.Items[i].key.String()+" "+map[bool]string{true: "ok", false: "bad"}[p.Items[i].fault == nil])
	}
	if diff := cmp.Diff([]string{"Role n/a ok", "Role n/b bad", "Role c bad", "  bad"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if p.ResourceVersion != "7" || p.Continue != "x" || p.Items[0].ResourceVersion != "5" {
		t.Errorf("got version %q, continue %q, %q", p.ResourceVersion, p.Continue, p.Items[0].ResourceVersion)
	}
	for _, bad := range []string{``, `x`, `[]`, `{}`, `{"items":{}}`, `<html>`} {
		if _, err := readPage(context.Role, []byte(bad)); err == nil {
			t.Errorf("%q is taken for a list", bad)
		}
	}
}

func TestUnreadableObjectIsLeftOutAndSaid(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	api.put("roles", "shop", "odd", j{"rules": "none"})
	s := start(t, to, quick(api.config("c")))
	s.ready.until(t)
	to.until(t, "all others are there", func() bool { return to.all("c") == filled && to.complete("c", context.Role) })
	if !strings.Contains(s.log.String(), "object not readable") {
		t.Error("nobody is told")
	}
	api.put("roles", "shop", "get", j{"rules": []j{}})
	to.until(t, "the watch goes on", func() bool { return len(to.find("c", context.Role, "shop", "get").Object.Rules) == 0 })
}

func FuzzReadPage(f *testing.F) {
	f.Add([]byte(`{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a","namespace":"n"}}]}`))
	f.Add([]byte(`{"items":null}`))
	f.Add([]byte(`{"items":[null,1,{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, r := range resources() {
			p, err := readPage(r.kind, text)
			if err != nil {
				continue
			}
			for i := range p.Items {
				if o := &p.Items[i]; (o.fault == nil) != (o.kept != nil) || o.fault == nil && o.key.Name == "" {
					t.Errorf("%s: an item is neither read nor refused: %+v", r.name, o)
				}
			}
		}
	})
}

func FuzzTimes(f *testing.F) {
	f.Add("roles=1700000000000000 pods=1")
	f.Add("x= =1 roles=-1 roles")
	f.Fuzz(func(t *testing.T, text string) {
		times := parseTimes(text)
		if diff := cmp.Diff(times, parseTimes(formatTimes(times))); diff != "" {
			t.Errorf("-first +again:\n%s", diff)
		}
	})
}
