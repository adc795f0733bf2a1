package directory

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
)

func people(t *testing.T, source, text string) *List {
	t.Helper()
	list, err := ReadPeople("people", source, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func dump(t *testing.T, name, text string) *context.Dump {
	t.Helper()
	d, err := context.ReadDumpFrom(name, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// carry does what a plan says, and checks that there is nothing left to do.
func carry(t *testing.T, store *context.Store, again func() *Plan) *Plan {
	t.Helper()
	p := again()
	first, then := p.Changes()
	store.Apply(p.Cluster, first...)
	store.Apply(p.Cluster, then...)
	if rest := again(); !rest.Empty() {
		t.Errorf("left to do: %v %s", describeSteps(rest), rest)
	}
	return p
}

func describeSteps(p *Plan) (all []string) {
	for i := range p.Steps {
		s := &p.Steps[i]
		text := string(s.Operation) + " " + s.Key.String()
		for j := range s.Fields {
			text += "; " + s.Fields[j].String()
		}
		all = append(all, text)
	}
	return all
}

func expectSteps(t *testing.T, p *Plan, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, describeSteps(p)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A list replaces what it said before, and nothing that others said.
func TestPlanList(t *testing.T) {
	store := context.NewStore(context.DefaultConfig())
	plan := func(source, text string, from int64) func() *Plan {
		return func() *Plan { return PlanList(store, people(t, source, text), from) }
	}
	p := carry(t, store, plan("hr", "email,team,groups\na@x.example,one,g;h\nb@x.example,one,\n", 1000))
	expectSteps(t, p, "add Person a@x.example", "add Person b@x.example")
	p = carry(t, store, plan("other", "email\nc@x.example\n", 2000))
	expectSteps(t, p, "add Person c@x.example")
	if p.Present != 0 {
		t.Errorf("%d objects of another source", p.Present)
	}
	p = carry(t, store, plan("hr", "email,team,groups,name\na@x.example,two,h;i,Ann\n", 3000))
	expectSteps(t, p, "change Person a@x.example; groups -g +i; name nothing → Ann; team one → two", "remove Person b@x.example")
	if p.String() != "0 added, 1 changed, 1 removed, 0 unchanged" || p.Present != 2 {
		t.Errorf("got %s of %d", p, p.Present)
	}
	known := store.Cluster(context.Organization)
	var names []string
	for item := range known.Objects(context.Person, 3000) {
		names = append(names, item.Key.Name+" "+item.Source)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"a@x.example import:hr", "c@x.example import:other"}, names); diff != "" {
		t.Error(diff)
	}
	if b := known.Find(context.Key{Kind: context.Person, Name: "b@x.example"}, 2999); b == nil {
		t.Error("who was removed was not there before")
	}
	// Of two lists that have a person the last one counts, and it shows.
	expectSteps(t, plan("other", "email,team\nc@x.example,\na@x.example,three\n", 3500)(),
		"change Person a@x.example; groups -h -i; name Ann → nothing; team two → three; source import:hr → import:other")
	// Groups in another order are the same.
	if p := plan("hr", "email,team,groups,name\na@x.example,two,i;h,Ann\n", 4000)(); !p.Empty() || p.Unchanged != 1 {
		t.Errorf("got %v", describeSteps(p))
	}
}

// A topic that keeps the last record of each object must not lose what is newer than what is imported.
func TestPlanOfThePast(t *testing.T) {
	store := context.NewStore(context.DefaultConfig())
	carry(t, store, func() *Plan { return PlanList(store, people(t, "hr", "email,team\na@x.example,two\n"), 2000) })
	p := PlanList(store, people(t, "hr", "email,team\na@x.example,one\n"), 1000)
	first, then := p.Changes()
	if len(first) != 2 || len(then) != 0 || first[0].From != 1000 || first[0].Object.Person.Team != "one" || first[1].From != 2000 || first[1].Object.Person.Team != "two" {
		t.Errorf("got %+v", first)
	}
	// Whoever was removed later stays removed.
	carry(t, store, func() *Plan { return PlanList(store, people(t, "hr", "email,team\nb@x.example,two\n"), 3000) })
	p = PlanList(store, people(t, "hr", "email,team\na@x.example,one\n"), 1000)
	first, _ = p.Changes()
	if n := len(first); n != 2 || first[1].Object != nil || first[1].From != 3000 {
		t.Errorf("got %+v", first)
	}
}

func TestPlanDrastic(t *testing.T) {
	for _, tt := range []struct {
		present, removed int
		want             bool
	}{
		{0, 0, false}, {1, 1, false}, {2, 2, true}, {50, 10, false}, {50, 11, true}, {1000, 100, false}, {1000, 101, true},
	} {
		p := Plan{Present: tt.present}
		for range tt.removed {
			p.Steps = append(p.Steps, Step{Operation: Remove})
		}
		if got := p.Drastic(); got != tt.want {
			t.Errorf("%d of %d: %v", tt.removed, tt.present, got)
		}
	}
}

const (
	role1 = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"r","uid":"u","resourceVersion":"10"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`
	role2 = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"r","uid":"u","resourceVersion":"11"},"rules":[{"verbs":["get"],"apiGroups":["","apps"],"resources":["pods"],"resourceNames":["x"]}]}`
	touch = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"r","uid":"u","resourceVersion":"12"},"rules":[{"verbs":["get"],"apiGroups":["","apps"],"resources":["pods"],"resourceNames":["x"]}]}`
	again = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"r","uid":"v","resourceVersion":"2"},"rules":[]}`
	other = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"s","uid":"w","resourceVersion":"2"},"rules":[]}`
	bind  = `{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"b","uid":"x","resourceVersion":"3"},"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"User","name":"a"},{"kind":"ServiceAccount","namespace":"n","name":"s"}]}`
)

func of(items ...string) string {
	return `{"kind":"List","items":[` + strings.Join(items, ",") + `]}`
}

// A dump is compared by what is used of objects, and by what the API server says of their versions.
func TestPlanDump(t *testing.T) {
	store := context.NewStore(context.DefaultConfig())
	plan := func(text string, from int64) func() *Plan {
		return func() *Plan { return PlanDump(store, "prod", dump(t, "dump", text), from) }
	}
	p := carry(t, store, plan(of(role1, bind), 1000))
	expectSteps(t, p, "add ClusterRole r", "add ClusterRoleBinding b")
	if diff := cmp.Diff([]context.Kind{context.ClusterRole, context.ClusterRoleBinding}, p.Complete); diff != "" {
		t.Error(diff)
	}
	if _, then := p.Changes(); len(then) != 1 || then[0].Key.Kind != 0 {
		t.Errorf("that all is known is said with the rest: %+v", then)
	}
	p = carry(t, store, plan(of(role2, other), 2000))
	expectSteps(t, p, "change ClusterRole r; rules -(verbs=get apiGroups=core resources=pods) +(verbs=get apiGroups=core,apps resources=pods resourceNames=x)",
		"add ClusterRole s")
	if len(p.Complete) != 0 {
		t.Errorf("%v are known again", p.Complete)
	}
	if p := plan(of(touch, other), 3000)(); !p.Empty() || p.Unchanged != 2 {
		t.Errorf("a version alone is no change: %v", describeSteps(p))
	}
	p = plan(of(role1, other), 3000)()
	if expectSteps(t, p); p.Outdated != 1 || p.String() != "0 added, 0 changed, 0 removed, 1 unchanged, 1 older than what is known" {
		t.Errorf("got %s", p)
	}
	p = carry(t, store, plan(of(again), 4000))
	if len(p.Steps) != 2 || p.Steps[0].Fields[0].String() != "metadata.uid u → v" || p.Steps[1].Operation != Remove {
		t.Errorf("got %v", describeSteps(p))
	}
	expectSteps(t, PlanDump(store, "prod", &context.Dump{Name: "part", Objects: dump(t, "d", of(other)).Objects}, 5000), "add ClusterRole s")
}

// What could not be followed is known again after a dump, even if what is used of it is as it was.
func TestPlanHeals(t *testing.T) {
	store := context.NewStore(context.DefaultConfig())
	plan := func(role string, from int64) func() *Plan {
		return func() *Plan { return PlanDump(store, "prod", dump(t, "dump", of(role, bind)), from) }
	}
	carry(t, store, plan(role2, 1000))
	key := context.Key{Kind: context.ClusterRole, Name: "r"}
	store.Apply("prod", context.Change{Key: key, From: 2000, Stale: true, Source: context.SourceAudit}, context.Change{Doubt: true, From: 2000, Source: context.SourceAudit})
	if p := plan(role1, 3000)(); p.Outdated != 1 || p.Count(Change) != 0 {
		t.Errorf("a dump of before the change: %s", p)
	}
	p := carry(t, store, plan(role2, 3000))
	expectSteps(t, p, "change ClusterRole r")
	if len(p.Complete) != 2 {
		t.Errorf("known again: %v", p.Complete)
	}
	if item := store.Cluster("prod").Find(key, 3000); item == nil || item.Stale {
		t.Errorf("got %+v", item)
	}
	if item := store.Cluster("prod").Find(key, 2999); item == nil || !item.Stale {
		t.Errorf("before it was seen again: %+v", item)
	}
}

// What the controller of the API server gathered, and what is gathered here, are one: the second import finds nothing to do.
func TestPlanAggregated(t *testing.T) {
	const form = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"NAME","uid":"u-NAME","resourceVersion":"REV","labels":{LABELS}},AGGREGATES"rules":[RULES]}`
	clusterRole := func(name, rev, labels, selector string, verbs ...string) string {
		var rules []string
		for _, v := range verbs {
			rules = append(rules, `{"verbs":["`+v+`"],"apiGroups":[""],"resources":["pods"]}`)
		}
		if selector != "" {
			selector = `"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{` + selector + `}}]},`
		}
		return strings.NewReplacer("NAME", name, "REV", rev, "LABELS", labels, "AGGREGATES", selector, "RULES", strings.Join(rules, ",")).Replace(form)
	}
	const toAdmin, toEdit = `"to-admin":"true"`, `"to-edit":"true"`
	dumps := []string{
		of(clusterRole("admin", "9", "", toAdmin, "b", "a", "admin"), clusterRole("edit", "8", toAdmin, toEdit, "b", "a"),
			clusterRole("one", "1", toEdit, "", "a"), clusterRole("two", "2", toEdit, "", "b"), clusterRole("three", "3", toAdmin, "", "admin")),
		// The controller has not got there yet.
		of(clusterRole("admin", "9", "", toAdmin, "b", "a", "admin"), clusterRole("edit", "8", toAdmin, toEdit, "b", "a"),
			clusterRole("one", "11", toEdit, "", "c"), clusterRole("two", "2", toEdit, "", "b"), clusterRole("three", "3", toAdmin, "", "admin")),
		of(clusterRole("admin", "13", "", toAdmin, "c", "b", "admin"), clusterRole("edit", "12", toAdmin, toEdit, "b", "c"),
			clusterRole("one", "11", toEdit, "", "c"), clusterRole("two", "2", toEdit, "", "b"), clusterRole("three", "3", toAdmin, "", "admin")),
	}
	store := context.NewStore(context.DefaultConfig())
	for i, text := range dumps {
		at := int64(1000 * (i + 1))
		carry(t, store, func() *Plan { return PlanDump(store, "prod", dump(t, "dump", text), at) })
		if p := PlanDump(store, "prod", dump(t, "dump", text), at+500); !p.Empty() {
			t.Errorf("dump %d again, later: %v", i, describeSteps(p))
		}
	}
	// What the stream says of a part is gathered, and the controller's own write then is nothing new.
	part := dump(t, "d", of(clusterRole("one", "14", toEdit, "", "d"))).Objects[0]
	store.Apply("prod", context.Change{Key: part.Key, From: 5000, Object: part.Object, Source: context.SourceAudit})
	last := of(clusterRole("admin", "16", "", toAdmin, "d", "b", "admin"), clusterRole("edit", "15", toAdmin, toEdit, "b", "d"),
		clusterRole("one", "14", toEdit, "", "d"), clusterRole("two", "2", toEdit, "", "b"), clusterRole("three", "3", toAdmin, "", "admin"))
	if p := PlanDump(store, "prod", dump(t, "dump", last), 6000); !p.Empty() {
		t.Errorf("what was gathered differs: %v", describeSteps(p))
	}
}

// A dump removes nothing of what it is not of: another kind, another namespace.
func TestPlanOfAPart(t *testing.T) {
	in := func(kind, namespace, name string) string {
		text := `{"kind":"` + kind + `","apiVersion":"VERSION","metadata":{"namespace":"` + namespace + `","name":"` + name + `","uid":"u-` + name + `"}}`
		version := map[string]string{"Role": "rbac.authorization.k8s.io/v1", "ServiceAccount": "v1", "Pod": "v1"}[kind]
		return strings.Replace(text, "VERSION", version, 1)
	}
	all := of(role1, in("Role", "kube-system", "a"), in("Role", "web", "b"), in("Role", "web", "c"), in("Pod", "kube-system", "p"), in("Pod", "web", "q"), in("ServiceAccount", "web", "s"))
	for _, tt := range []struct {
		name, text string
		want       []string
		complete   int
	}{
		{"of one kind", of(other), []string{"remove ClusterRole r", "add ClusterRole s"}, 0},
		{"of one namespace", of(in("Role", "web", "b")), []string{"remove Role web/c"}, 0},
		{"of one namespace, several kinds", of(in("Role", "web", "d"), in("Pod", "web", "r")), []string{"remove Role web/b", "remove Role web/c", "add Role web/d", "remove Pod web/q", "add Pod web/r"}, 0},
		{"of all", of(in("Role", "kube-system", "a"), in("Role", "web", "b"), in("Pod", "web", "q")), []string{"remove Role web/c", "remove Pod kube-system/p"}, 0},
		{"without versions, of all", of(in("Role", "kube-system", "a"), in("Role", "web", "b"), in("Role", "web", "c")), nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := context.NewStore(context.DefaultConfig())
			carry(t, store, func() *Plan { return PlanDump(store, "prod", dump(t, "dump", all), 1000) })
			p := carry(t, store, func() *Plan { return PlanDump(store, "prod", dump(t, "dump", tt.text), 2000) })
			expectSteps(t, p, tt.want...)
			if len(p.Complete) != tt.complete {
				t.Errorf("then all are known of %v", p.Complete)
			}
			if removed := p.Count(Remove); removed > p.Present {
				t.Errorf("%d of %d are removed", removed, p.Present)
			}
		})
	}
	// That all are known after a list of one namespace nobody says.
	store := context.NewStore(context.DefaultConfig())
	store.Apply("prod", context.Change{Key: context.Key{Kind: context.Role, Namespace: "kube-system", Name: "a"}, From: 10, Object: &context.Object{}, Source: context.SourceAudit})
	carry(t, store, func() *Plan { return PlanDump(store, "prod", dump(t, "dump", of(in("Role", "web", "b"))), 1000) })
	if store.Cluster("prod").Complete(context.Role, 2000) {
		t.Error("a list of one namespace is taken for all")
	}
}
