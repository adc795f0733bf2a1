package context_test

import (
	"testing"

	"github.com/auditmill/auditmill/enrich/context"
)

func TestMoment(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	if m := s.Cluster(cluster).Moment(); m != nil {
		t.Errorf("got %+v of a cluster that is not known", m)
	}
	key := context.Key{Kind: context.Namespace, Name: "web"}
	change := context.Change{Key: key, From: 100, Object: &context.Object{}, Source: context.SourceAudit}
	s.Apply(cluster, change)
	first := s.Cluster(cluster).Moment()
	if first.Newest != 100 {
		t.Errorf("newest is %d, want 100", first.Newest)
	}
	if s.Apply(cluster); s.Cluster(cluster).Moment() != first {
		t.Error("another moment, though nothing changed")
	}
	late := change
	late.From, late.Key.Name = 50, "late"
	s.Apply(cluster, late)
	if m := s.Cluster(cluster).Moment(); m == first || m.Newest != 100 {
		t.Errorf("got %+v after a late change, want another moment, of 100 still", m)
	}
	s.Remove(cluster)
	s.Apply(cluster, change)
	if m := s.Cluster(cluster).Moment(); m == first {
		t.Error("the moment of a cluster that was removed is back")
	}
}
