package access_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/offline/access"
)

// Who is imported is in the groups that were imported at the time, but in none that a cluster vouches for.
func TestGroups(t *testing.T) {
	store := context.NewStore(context.DefaultConfig())
	ann := context.Key{Kind: context.Person, Name: "ann@corp.example"}
	group := func(name string, from int64, members ...string) context.Change {
		return context.Change{
			Key: context.Key{Kind: context.Group, Name: name}, From: from, Source: "import:x",
			Object: &context.Object{Group: &context.GroupInfo{Members: members}},
		}
	}
	store.Apply(context.Organization,
		context.Change{Key: ann, From: 1000, Source: "import:x", Object: &context.Object{Person: &context.PersonInfo{
			Email: ann.Name, Usernames: []string{"oidc:ann"}, Groups: []string{"web", "system:masters"},
		}}},
		group("sre", 2000, ann.Name), group("web", 1000, ann.Name), group("other", 1000, "bob@corp.example"), group("system:nodes", 1000, ann.Name))
	for _, tt := range []struct {
		user   string
		at     int64
		want   []string
		person string
	}{
		{"oidc:ann", 0, []string{"system:authenticated", "sre", "web"}, ann.Name},
		{"oidc:ann", 1500, []string{"system:authenticated", "web"}, ann.Name},
		{"oidc:ann", 500, []string{"system:authenticated"}, ""},
		{"bob", 0, []string{"system:authenticated"}, ""},
		{"system:serviceaccount:ci:d", 0, []string{"system:authenticated", "system:serviceaccounts", "system:serviceaccounts:ci"}, ""},
	} {
		var at time.Time
		if tt.at > 0 {
			at = time.UnixMicro(tt.at)
		}
		groups, person := access.Groups(store, "prod", tt.user, at)
		name := ""
		if person != nil {
			name = person.Key.Name
		}
		if diff := cmp.Diff(tt.want, groups); diff != "" || name != tt.person {
			t.Errorf("%s at %d: %s\n%s", tt.user, tt.at, name, diff)
		}
	}
}

// A grant is as old as its binding; that its role is younger is said besides.
func TestGrants(t *testing.T) {
	const second = int64(time.Second / time.Microsecond)
	store := context.NewStore(context.DefaultConfig())
	role := context.Key{Kind: context.Role, Namespace: "web", Name: "r"}
	change := func(key context.Key, from int64, source, by string, o *context.Object) {
		o.Metadata = context.Metadata{UID: key.String(), CreationTimestamp: "1970-01-01T00:00:05Z"}
		store.Apply("prod", context.Change{Key: key, From: from, Source: source, By: by, Object: o})
	}
	rules := []context.Rule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	change(role, 0, "import:x", "", &context.Object{Rules: rules})
	change(context.Key{Kind: context.RoleBinding, Namespace: "web", Name: "b"}, 10*second, context.SourceAudit, "ann", &context.Object{
		RoleRef: &context.RoleRef{Kind: "Role", Name: "r"}, Subjects: []context.Subject{{Kind: "User", Name: "bob"}},
	})
	q := rbac.ParseResource("pods")
	q.Verb, q.Namespace = "get", "web"
	ask := func() access.Grant {
		t.Helper()
		a := access.Why(store.Cluster("prod").Latest(), "bob", nil, &q)
		if len(a.Matches) != 1 {
			t.Fatalf("got %+v", a)
		}
		return a.Matches[0]
	}
	want := access.Origin{
		Since: time.Unix(10, 0).UTC(), Exact: true, Created: time.Unix(5, 0).UTC(), By: "ann", Source: context.SourceAudit,
	}
	if g := ask(); g.ChangedRole != nil || !cmp.Equal(want, g.Origin) {
		t.Errorf("got %+v, want %+v", g, want)
	}
	change(role, 20*second, context.SourceWatch, "", &context.Object{Rules: append(rules, rules...)})
	want = access.Origin{Since: time.Unix(20, 0).UTC(), Created: time.Unix(5, 0).UTC(), Source: context.SourceWatch}
	a := access.Why(store.Cluster("prod").Latest(), "bob", nil, &q)
	if len(a.Matches) == 0 || a.Matches[0].ChangedRole == nil || !cmp.Equal(want, *a.Matches[0].ChangedRole) {
		t.Errorf("got %+v, want the role's %+v", a.Matches, want)
	}
}
