package identity_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/schemas"
)

// randomChange says something new, or late, of one of a few objects that the events of randomEvent name.
func randomChange(r *rand.Rand) (string, context.Change) {
	n, at := r.IntN(3), past+int64(r.IntN(100))
	text := fmt.Sprint("v", r.IntN(1000))
	c := context.Change{From: at, Source: context.SourceAudit, By: text}
	cluster := "prod"
	switch r.IntN(9) {
	case 0:
		cluster, c.Key = context.Organization, personKey(fmt.Sprintf("p%d@corp.example", n))
		c.Object = person(context.PersonInfo{Name: text, Groups: []string{fmt.Sprint("g", r.IntN(3))}, Usernames: []string{fmt.Sprint("user", n)}})
	case 1:
		cluster, c.Key = context.Organization, groupKey(fmt.Sprint("g", n))
		c.Object = &context.Object{Group: &context.GroupInfo{Name: text, Members: []string{fmt.Sprintf("p%d@corp.example", r.IntN(3))}}}
	case 2:
		cidr := []string{"10.0.0.0/8", "10.0.1.0/24", "192.0.2.0/24"}[n]
		cluster, c.Key = context.Organization, zoneKey(cidr)
		c.Object = &context.Object{Range: &context.RangeInfo{CIDR: cidr, Zone: text}}
	case 3:
		c.Key = podKey("payments", fmt.Sprint("pod", n))
		o := owned("ReplicaSet", fmt.Sprint("rs", n), context.Object{Pod: &context.PodInfo{Node: fmt.Sprint("node", r.IntN(3)), IPs: []string{fmt.Sprint("10.0.1.", r.IntN(3))}}})
		o.Metadata.UID = "u" + fmt.Sprint(r.IntN(2))
		c.Object = o
	case 4:
		c.Key = context.Key{Kind: context.ReplicaSet, Namespace: "payments", Name: fmt.Sprint("rs", n)}
		c.Object = owned("Deployment", text, context.Object{})
	case 5:
		c.Key = context.Key{Kind: context.Node, Name: fmt.Sprint("node", n)}
		c.Object = &context.Object{Node: &context.NodeInfo{Addresses: []string{fmt.Sprint("192.0.2.", r.IntN(3))}}}
	case 6:
		c.Key = context.Key{Kind: context.Namespace, Name: "payments"}
		c.Object = &context.Object{Metadata: context.Metadata{Labels: map[string]string{"team": text}}}
	case 7:
		c.Key = context.Key{Kind: context.ServiceAccount, Namespace: "payments", Name: "api"}
		c.Object = &context.Object{Metadata: context.Metadata{Annotations: map[string]string{"eks.amazonaws.com/role-arn": text}}}
	case 8:
		c.Key = context.Key{Kind: context.Credential, Name: fmt.Sprint("JTI=", n)}
		c.Object = &context.Object{Credential: &context.CredentialInfo{By: text, Subject: "system:serviceaccount:payments:api"}}
	}
	if r.IntN(4) == 0 && c.Key.Kind != context.Credential {
		c.Object = nil // deleted
	}
	return cluster, c
}

func randomEvent(r *rand.Rand) schemas.Event {
	n, source := r.IntN(3), fmt.Sprint([]string{"10.0.1.", "192.0.2."}[r.IntN(2)], r.IntN(3))
	e := schemas.Event{User: fmt.Sprint("user", n), SourceIP: source, Namespace: "payments", Groups: []string{fmt.Sprint("g", r.IntN(3))}}
	if r.IntN(2) == 0 {
		e = account(fmt.Sprint("pod", n), fmt.Sprint("u", r.IntN(2)), "", source, fmt.Sprint("JTI=", r.IntN(3)))
	}
	e.EventTime = past + int64(r.IntN(120))
	return e
}

// What is remembered makes no difference: not when things change, become known late, or an earlier time is asked for.
func TestMemory(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := context.NewStore(context.DefaultConfig())
		j := identity.NewJoiner(s, nil)
		for step := range 500 {
			if r.IntN(5) == 0 {
				cluster, change := randomChange(r)
				s.Apply(cluster, change)
			}
			if r.IntN(200) == 0 {
				s.Remove([]string{"prod", context.Organization}[r.IntN(2)])
			}
			e := randomEvent(r)
			got, want := who(joined(j, e)), who(joined(identity.NewJoiner(s, nil), e))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, step %d, user %s at %+d: (-new +remembered)\n%s", seed, step, e.User, e.EventTime-past, diff)
			}
		}
	}
}

// The context changes while events are joined; afterwards what was remembered meanwhile is right.
func TestWhileItChanges(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	var writer sync.WaitGroup
	writer.Go(func() {
		r := rand.New(rand.NewPCG(1, 1))
		for range 2000 {
			cluster, change := randomChange(r)
			s.Apply(cluster, change)
		}
	})
	j, r := identity.NewJoiner(s, nil), rand.New(rand.NewPCG(2, 2))
	for range 5000 {
		joined(j, randomEvent(r))
	}
	writer.Wait()
	for range 1000 {
		e := randomEvent(r)
		if diff := cmp.Diff(who(joined(identity.NewJoiner(s, nil), e)), who(joined(j, e))); diff != "" {
			t.Fatalf("%s at %+d: (-new +remembered)\n%s", e.User, e.EventTime-past, diff)
		}
	}
}
