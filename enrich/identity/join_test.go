package identity_test

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/schemas"
)

// now is when the events of the tests are; what is known is known since long ago.
const (
	now  = int64(1_795_000_000_000_000)
	past = now - 3_600_000_000
)

type objects map[context.Key]*context.Object

// store has the objects since a time.
func store(cluster string, from int64, all objects) *context.Store {
	s := context.NewStore(context.DefaultConfig())
	add(s, cluster, from, all)
	return s
}

func add(s *context.Store, cluster string, from int64, all objects) {
	for key, o := range all {
		s.Apply(cluster, context.Change{Key: key, From: from, Object: o, Source: context.SourceWatch})
	}
}

func kv(pairs ...string) (out []schemas.KeyValues) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, schemas.KeyValues{Key: pairs[i], Values: []string{pairs[i+1]}})
	}
	return out
}

// joined is e after Classify and Join.
func joined(j *identity.Joiner, e schemas.Event) *schemas.Event {
	if e.Cluster == "" {
		e.Cluster = "prod"
	}
	if e.EventTime == 0 {
		e.EventTime = now
	}
	new(identity.Classifier).Classify(&e)
	j.Join(&e)
	return &e
}

func person(p context.PersonInfo) *context.Object { return &context.Object{Person: &p} }

func personKey(id string) context.Key { return context.Key{Kind: context.Person, Name: id} }

func groupKey(id string) context.Key { return context.Key{Kind: context.Group, Name: id} }

const (
	sso     = "arn:aws:iam::1:role/AWSReservedSSO_Admin_1"
	saml    = "arn:aws:iam::1:role/saml"
	samlSTS = "arn:aws:sts::1:assumed-role/saml/alice@corp.example"
)

func organization() *context.Store {
	return store(context.Organization, past, objects{
		personKey("alice@corp.example"): person(context.PersonInfo{
			Name: "Alice", Email: "alice@corp.example", Team: "payments", Manager: "bob@corp.example", Active: "true",
			Usernames: []string{"oidc:alice", "oid:00aa", "cluster/prod/kubernetes-admin", "cluster/prod/system:admin", saml + "/alice@corp.example"},
			Groups:    []string{"g-1", "sre@corp.example", "system:masters"},
		}),
		personKey("carol"): person(context.PersonInfo{Name: "Carol", Active: "false", Usernames: []string{"arn:aws:iam::1:role/carols"}}),
		groupKey("g-1"):    {Group: &context.GroupInfo{Name: "Payments"}},
		groupKey("g-2"):    {Group: &context.GroupInfo{Name: "On call", Members: []string{"alice@corp.example"}}},
		groupKey("g-3"):    {Group: &context.GroupInfo{Name: "oncall@corp.example", Members: []string{"alice@corp.example", "carol"}}},
		groupKey("g-4"):    {Group: &context.GroupInfo{Name: "system:masters", Members: []string{"alice@corp.example"}}},
	})
}

// Alice is the same in every cluster and cloud.
func TestPerson(t *testing.T) {
	j := identity.NewJoiner(organization(), nil)
	eks := func(user, role, session string) schemas.Event {
		return schemas.Event{User: user, UserUID: "aws-iam-authenticator:1:AROA1", Extra: kv("canonicalArn", role, "sessionName", session)}
	}
	for name, tt := range map[string]struct {
		in   schemas.Event
		want string // actor
	}{
		"address":                        {schemas.Event{User: "alice@corp.example"}, "alice@corp.example"},
		"address in capitals":            {schemas.Event{User: "Alice@Corp.Example"}, "alice@corp.example"},
		"OIDC with a prefix":             {schemas.Event{User: "oidc:alice"}, "alice@corp.example"},
		"SSO of AWS":                     {eks("admin", sso, "alice@corp.example"), "alice@corp.example"},
		"Entra, whatever the name":       {schemas.Event{User: "renamed@corp.example", Extra: kv("oid", "00aa")}, "alice@corp.example"},
		"a session the tables trust":     {eks("x", saml, "alice@corp.example"), "alice@corp.example"},
		"a session they do not":          {eks("alice@corp.example", "arn:aws:iam::1:role/other", "alice@corp.example"), "arn:aws:iam::1:role/other/alice@corp.example"},
		"certificate of this cluster":    {schemas.Event{User: "kubernetes-admin"}, "alice@corp.example"},
		"the same name in another":       {schemas.Event{Cluster: "dev", User: "kubernetes-admin"}, "dev/kubernetes-admin"},
		"system user of this cluster":    {schemas.Event{User: "system:admin"}, "alice@corp.example"},
		"system user of another":         {schemas.Event{Cluster: "dev", User: "system:admin"}, "dev/system:admin"},
		"a role that is one person's":    {eks("x", "arn:aws:iam::1:role/carols", "laptop"), "carol"},
		"by the ARN of the session":      {schemas.Event{User: "x", Extra: kv("arn", samlSTS)}, "alice@corp.example"},
		"unknown":                        {schemas.Event{User: "dave@corp.example"}, "dave@corp.example"},
		"nobody":                         {schemas.Event{}, ""},
		"service accounts are no people": {schemas.Event{User: "system:serviceaccount:a:alice@corp.example"}, "prod/system:serviceaccount:a:alice@corp.example"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second time remembered
				if e := joined(j, tt.in); e.Actor != tt.want {
					t.Errorf("got actor %q, want %q", e.Actor, tt.want)
				}
			}
		})
	}
}

// who is the columns that the tests compare.
func who(e *schemas.Event) map[string]any {
	all := map[string]any{}
	for name, value := range map[string]string{
		"actor": e.Actor, "actor_kind": e.ActorKind, "display_name": e.DisplayName, "email": e.Email, "team": e.Team, "manager": e.Manager,
		"active": e.Active, "workload": e.Workload, "node": e.Node, "pod": e.Pod, "cloud_identity": e.CloudIdentity, "minted_by": e.MintedBy,
		"source_zone": e.SourceZone, "source_country": e.SourceCountry, "source_network": e.SourceNetwork, "source_node": e.SourceNode,
		"off_node": e.OffNode, "namespace_owner": e.NamespaceOwner,
	} {
		if value != "" {
			all[name] = value
		}
	}
	if e.MintedAt != 0 {
		all["minted_at"] = e.MintedAt
	}
	if len(e.ActorGroups) > 0 {
		all["actor_groups"] = e.ActorGroups
	}
	if len(e.NamespaceLabels) > 0 {
		all["namespace_labels"] = e.NamespaceLabels
	}
	return all
}

type columns = map[string]any

func check(t *testing.T, e *schemas.Event, want columns) {
	t.Helper()
	if diff := cmp.Diff(want, who(e), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestPersonAttributes(t *testing.T) {
	s := organization()
	j := identity.NewJoiner(s, nil)
	alice := columns{
		"actor": "alice@corp.example", "actor_kind": identity.Human, "display_name": "Alice", "email": "alice@corp.example", "team": "payments",
		"manager": "bob@corp.example", "active": "true", "actor_groups": []string{"On call", "Payments", "g-4", "oncall@corp.example", "sre@corp.example"},
	}
	check(t, joined(j, schemas.Event{User: "alice@corp.example"}), alice)

	// Entra gives the ids of groups, also of callers that are in no table.
	check(t, joined(j, schemas.Event{User: "x@corp.example", Groups: []string{"g-2", "unknown", "system:authenticated"}, Extra: kv("oid", "1")}), columns{
		"actor": "x@corp.example", "actor_kind": identity.Human, "actor_groups": []string{"On call"},
	})

	// She leaves. What was before stays as it was, whatever is remembered.
	left := person(context.PersonInfo{Name: "Alice", Email: "alice@corp.example", Active: "false"})
	add(s, context.Organization, now+10, objects{personKey("alice@corp.example"): left})
	check(t, joined(j, schemas.Event{User: "alice@corp.example"}), alice)
	gone := columns{
		"actor": "alice@corp.example", "actor_kind": identity.Human, "display_name": "Alice", "email": "alice@corp.example", "active": "false",
		"actor_groups": []string{"On call", "g-4", "oncall@corp.example"},
	}
	check(t, joined(j, schemas.Event{User: "alice@corp.example", EventTime: now + 10}), gone)
	check(t, joined(j, schemas.Event{User: "alice@corp.example", EventTime: now + 9}), alice)
	check(t, joined(j, schemas.Event{User: "alice@corp.example", EventTime: now + 11}), gone)
	check(t, joined(j, schemas.Event{User: "alice@corp.example", EventTime: past - 1}), columns{"actor": "alice@corp.example", "actor_kind": identity.Human})
}

func TestGroups(t *testing.T) {
	j := identity.NewJoiner(organization(), nil)
	for _, tt := range []struct {
		in   schemas.Event
		want []string
	}{
		{schemas.Event{User: "alice@corp.example", Groups: []string{"system:authenticated"}}, nil},
		{schemas.Event{}, nil},
		// Nobody becomes system:masters by a table.
		{schemas.Event{User: "alice@corp.example"}, []string{"g-1", "g-2", "g-3", "g-4", "oncall@corp.example", "sre@corp.example", "system:authenticated"}},
		{schemas.Event{User: "dave@corp.example"}, []string{"system:authenticated"}},
		{schemas.Event{User: "system:anonymous"}, []string{"system:unauthenticated"}},
		{schemas.Event{User: "system:kube-scheduler"}, []string{"system:authenticated"}},
		{schemas.Event{User: "system:node:n1"}, []string{"system:authenticated", "system:nodes"}},
		{schemas.Event{User: "system:serviceaccount:ci:x"}, []string{"system:authenticated", "system:serviceaccounts", "system:serviceaccounts:ci"}},
	} {
		if diff := cmp.Diff(tt.want, j.Groups(joined(j, tt.in))); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.in.User, diff)
		}
	}
}

func podKey(namespace, name string) context.Key {
	return context.Key{Kind: context.Pod, Namespace: namespace, Name: name}
}

func owned(by, name string, o context.Object) *context.Object {
	o.Metadata.Owner = &context.Owner{Kind: by, Name: name}
	return &o
}

// cluster is two nodes with pods of all kinds of owners.
func cluster() objects {
	pod := func(uid, node string, ips ...string) context.Object {
		return context.Object{Metadata: context.Metadata{UID: uid}, Pod: &context.PodInfo{Node: node, ServiceAccount: "api", IPs: ips}}
	}
	host := pod("u-host", "node-a", "192.0.2.1")
	host.Pod.HostNetwork = true
	bare := pod("u-bare", "node-b", "10.0.2.9")
	return objects{
		{Kind: context.Node, Name: "node-a"}:                             {Node: &context.NodeInfo{Addresses: []string{"192.0.2.1"}, PodCIDRs: []string{"10.0.1.0/24"}}},
		{Kind: context.Node, Name: "node-b"}:                             {Node: &context.NodeInfo{Addresses: []string{"192.0.2.2", "2001:db8::2"}, PodCIDRs: []string{"10.0.2.0/24"}}},
		podKey("payments", "api-7-x"):                                    owned("ReplicaSet", "api-7", pod("u-api", "node-a", "10.9.9.9")),
		podKey("payments", "lost-1-x"):                                   owned("ReplicaSet", "lost-1", pod("u-lost", "node-a")),
		podKey("payments", "nightly-1-x"):                                owned("Job", "nightly-1", pod("u-job", "node-b", "10.0.2.7")),
		podKey("payments", "once-x"):                                     owned("Job", "once", pod("u-once", "node-b", "10.0.2.8")),
		podKey("payments", "db-0"):                                       owned("StatefulSet", "db", pod("u-db", "node-b")),
		podKey("payments", "bare"):                                       &bare,
		podKey("payments", "agent"):                                      owned("DaemonSet", "agent", host),
		podKey("payments", "static"):                                     owned("Node", "node-a", pod("u-static", "node-a")),
		{Kind: context.ReplicaSet, Namespace: "payments", Name: "api-7"}: owned("Deployment", "api", context.Object{}),
		{Kind: context.Job, Namespace: "payments", Name: "nightly-1"}:    owned("CronJob", "nightly", context.Object{}),
		{Kind: context.Job, Namespace: "payments", Name: "once"}:         {},
		{Kind: context.ServiceAccount, Namespace: "payments", Name: "api"}: {Metadata: context.Metadata{
			Annotations: map[string]string{"azure.workload.identity/client-id": "00cc"},
		}},
		podKey("payments", "odd"): {},
		{Kind: context.Namespace, Name: "payments"}: {Metadata: context.Metadata{
			Labels: map[string]string{"team": "pay", "env": "prod"}, Annotations: map[string]string{"corp.example/owner": "payments-leads"},
		}},
		{Kind: context.Credential, Name: "JTI=good"}:  {Credential: &context.CredentialInfo{By: "alice@corp.example", Subject: "system:serviceaccount:payments:api"}},
		{Kind: context.Credential, Name: "JTI=other"}: {Credential: &context.CredentialInfo{By: "mallory", Subject: "system:serviceaccount:kube-system:x"}},
	}
}

func account(pod, uid, node, source, credential string) schemas.Event {
	e := schemas.Event{
		User: "system:serviceaccount:payments:api", SourceIP: source, Namespace: "payments",
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:payments", "system:authenticated"},
	}
	for key, value := range map[string]string{"pod-name": pod, "pod-uid": uid, "node-name": node, "credential-id": credential} {
		if value != "" {
			e.Extra = append(e.Extra, kv("authentication.kubernetes.io/"+key, value)...)
		}
	}
	return e
}

func TestServiceAccount(t *testing.T) {
	j := identity.NewJoiner(store("prod", past, cluster()), nil)
	base := func(more columns) columns {
		all := columns{
			"actor": "prod/system:serviceaccount:payments:api", "actor_kind": identity.ServiceAccount, "team": "payments-leads", "cloud_identity": "00cc",
			"namespace_owner": "payments-leads", "namespace_labels": []schemas.KeyValue{{Key: "env", Value: "prod"}, {Key: "team", Value: "pay"}},
		}
		maps.Copy(all, more)
		return all
	}
	for name, tt := range map[string]struct {
		in   schemas.Event
		want columns
	}{
		"deployment": {account("api-7-x", "u-api", "node-a", "10.9.9.9", "JTI=good"), base(columns{
			"pod": "payments/api-7-x", "node": "node-a", "workload": "Deployment payments/api", "source_zone": "pod", "source_node": "node-a", "off_node": "false",
			"minted_by": "alice@corp.example", "minted_at": past,
		})},
		"node from the pod, source elsewhere": {account("nightly-1-x", "u-job", "", "192.0.2.1", ""), base(columns{
			"pod": "payments/nightly-1-x", "node": "node-b", "workload": "CronJob payments/nightly", "source_zone": "node", "source_node": "node-a", "off_node": "true",
		})},
		"job":                 {account("once-x", "u-once", "", "", ""), base(columns{"pod": "payments/once-x", "node": "node-b", "workload": "Job payments/once"})},
		"owner unknown":       {account("lost-1-x", "u-lost", "", "", ""), base(columns{"pod": "payments/lost-1-x", "node": "node-a"})},
		"stateful set":        {account("db-0", "u-db", "", "", ""), base(columns{"pod": "payments/db-0", "node": "node-b", "workload": "StatefulSet payments/db"})},
		"another of the name": {account("db-0", "u-db-before", "node-a", "", ""), base(columns{"pod": "payments/db-0", "node": "node-a"})},
		"bare pod":            {account("bare", "u-bare", "", "", ""), base(columns{"pod": "payments/bare", "node": "node-b", "workload": "Pod payments/bare"})},
		"pod without more": {account("odd", "u-odd", "", "192.0.2.1", ""), base(columns{
			"pod": "payments/odd", "workload": "Pod payments/odd", "source_zone": "node", "source_node": "node-a",
		})},
		"static pod": {account("static", "u-static", "", "", ""), base(columns{"pod": "payments/static", "node": "node-a", "workload": "Node node-a"})},
		"host network": {account("agent", "u-host", "node-a", "192.0.2.1", ""), base(columns{
			"pod": "payments/agent", "node": "node-a", "workload": "DaemonSet payments/agent", "source_zone": "node", "source_node": "node-a", "off_node": "false",
		})},
		"unknown pod": {account("new-1", "u-1", "node-b", "10.0.2.77", ""), base(columns{
			"pod": "payments/new-1", "node": "node-b", "source_zone": "pod", "source_node": "node-b", "off_node": "false",
		})},
		"token of somebody else":  {account("", "", "", "", "JTI=other"), base(nil)},
		"token that nobody knows": {account("", "", "", "", "JTI=unknown"), base(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				check(t, joined(j, tt.in), tt.want)
			}
		})
	}
}

// What changed in a way that was not recorded is unknown from then on.
func TestStale(t *testing.T) {
	s := store("prod", past, cluster())
	for _, key := range []context.Key{
		{Kind: context.Namespace, Name: "payments"}, {Kind: context.ServiceAccount, Namespace: "payments", Name: "api"},
	} {
		s.Apply("prod", context.Change{Key: key, From: now, Stale: true, Source: context.SourceAudit})
	}
	j := identity.NewJoiner(s, nil)
	check(t, joined(j, account("", "", "", "", "")), columns{"actor": "prod/system:serviceaccount:payments:api", "actor_kind": identity.ServiceAccount})
	before := account("", "", "", "", "")
	before.EventTime = now - 1
	if e := joined(j, before); e.Team != "payments-leads" || e.CloudIdentity != "00cc" || e.NamespaceOwner != "payments-leads" {
		t.Errorf("got %v of before", who(e))
	}
}

func TestMissing(t *testing.T) {
	j := identity.NewJoiner(store("prod", past, cluster()), nil)
	for name, tt := range map[string]struct {
		in   schemas.Event
		want bool
	}{
		"known pod":            {account("api-7-x", "u-api", "", "", ""), false},
		"unknown pod":          {account("api-8-x", "u-1", "", "", ""), true},
		"another of that name": {account("db-0", "u-2", "", "", ""), true},
		"no pod":               {account("", "", "", "", ""), false},
		"person":               {schemas.Event{User: "alice@corp.example"}, false},
	} {
		if got := j.Missing(joined(j, tt.in)); got != tt.want {
			t.Errorf("%s: got %t, want %t", name, got, tt.want)
		}
	}
	other := account("api-8-x", "u-1", "", "", "")
	other.Cluster = "unknown"
	if j.Missing(joined(j, other)) {
		t.Error("waits for a cluster of which nothing is known")
	}
	// Once it is known who requests tokens, one that is not known may be the next.
	unknown := account("", "", "", "", "JTI=unknown")
	if j.Missing(joined(j, unknown)) {
		t.Error("waits for a token though none was ever known")
	}
	joined(j, account("", "", "", "", "JTI=good"))
	if !j.Missing(joined(j, unknown)) {
		t.Error("does not wait for a token")
	}
	if j.Missing(joined(j, account("", "", "", "", "JTI=other"))) {
		t.Error("waits for a token that is known to be another's")
	}
}

func TestSession(t *testing.T) {
	j := identity.NewJoiner(context.NewStore(context.DefaultConfig()), nil)
	base := schemas.Event{User: "alice@corp.example", SourceIP: "192.0.2.1", Client: "kubectl", Extra: kv("authentication.kubernetes.io/credential-id", "JTI=1")}
	session := func(change func(*schemas.Event)) string {
		e := base
		change(&e)
		got := joined(j, e).Session
		if again := joined(identity.NewJoiner(organization(), nil), e).Session; got != again && e.User != "oidc:alice" {
			t.Errorf("got %q, and %q from another", got, again)
		}
		return got
	}
	same := session(func(*schemas.Event) {})
	if want := "20261118-"; same[:len(want)] != want || len(same) != len(want)+10 {
		t.Errorf("got %q", same)
	}
	for name, change := range map[string]func(*schemas.Event){
		"program":    func(e *schemas.Event) { e.Client, e.UserAgent = "curl", "curl/8" },
		"cluster":    func(e *schemas.Event) { e.Cluster = "dev" },
		"later":      func(e *schemas.Event) { e.EventTime = now + 60_000_000 },
		"stage time": func(e *schemas.Event) { e.StageTime = now + 1 },
	} {
		if got := session(change); got != same {
			t.Errorf("another %s makes another session", name)
		}
	}
	seen := map[string]string{same: "base"}
	for name, change := range map[string]func(*schemas.Event){
		"actor":      func(e *schemas.Event) { e.User = "bob@corp.example" },
		"credential": func(e *schemas.Event) { e.Extra = kv("authentication.kubernetes.io/credential-id", "JTI=2") },
		"no id":      func(e *schemas.Event) { e.Extra = nil },
		"access key": func(e *schemas.Event) { e.Extra = kv("arn", "arn:aws:iam::1:user/a", "accessKeyId", "AKIA1") },
		"other key":  func(e *schemas.Event) { e.Extra = kv("arn", "arn:aws:iam::1:user/a", "accessKeyId", "AKIA2") },
		"source":     func(e *schemas.Event) { e.SourceIP = "192.0.2.2" },
		"day":        func(e *schemas.Event) { e.EventTime = now + 86_400_000_000 },
		"before":     func(e *schemas.Event) { e.EventTime = now - 86_400_000_000 },
	} {
		got := session(change)
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s are one session", name, other)
		}
		seen[got] = name
	}
	// Where one name ends and the next begins makes a difference.
	if session(func(e *schemas.Event) {
		e.SourceIP, e.Extra = "1", kv("authentication.kubernetes.io/credential-id", "JTI=1")
	}) ==
		session(func(e *schemas.Event) {
			e.SourceIP, e.Extra = "11", kv("authentication.kubernetes.io/credential-id", "JTI=")
		}) {
		t.Error("two sessions are one")
	}
	damaged := schemas.Event{Cluster: "prod", User: "alice@corp.example", ReceivedAt: now}
	new(identity.Classifier).Classify(&damaged)
	if j.Join(&damaged); damaged.Session[:9] != same[:9] {
		t.Errorf("got %q of an event without a time of its own", damaged.Session)
	}
	if got := joined(j, schemas.Event{}).Session; got != "" {
		t.Errorf("got %q of nobody", got)
	}
}
