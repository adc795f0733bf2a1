package context

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// A handle finds what a look-up by the key finds, whatever happens to the object and the cluster.
func TestHandle(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := NewStore(Config{History: time.Minute, MaxVersions: 100, MaxObjects: 40, MaxCredentials: 10})
	kinds := []Kind{Pod, ServiceAccount, Namespace, Credential, ClusterRole}
	handles, keys := make([]Handle, 60), make([]Key, 60)
	for i := range keys {
		keys[i] = Key{Kind: kinds[i%len(kinds)], Name: strconv.Itoa(i / len(kinds))}
	}
	found := 0
	for round := range 20_000 {
		at := int64(round) * time.Second.Microseconds() / 10
		i := r.IntN(len(keys))
		change := Change{Key: keys[i], From: at, Source: SourceAudit}
		switch keys[i].Kind {
		case Credential:
			change.Object = &Object{Credential: &CredentialInfo{By: "a", Subject: "b", Expires: at + 1000}}
		case Pod:
			change.Object = &Object{Pod: &PodInfo{Node: strconv.Itoa(round)}}
		default:
			change.Object = &Object{}
		}
		switch n := r.IntN(2000); {
		case n == 0:
			s.Remove("c")
		case n == 1:
			s.Apply("c", Change{From: at, Removed: true})
		case n < 500:
			change.Object = nil
			s.Apply("c", change)
		default:
			s.Apply("c", change)
		}
		c := s.Cluster("c")
		i = r.IntN(len(keys))
		for _, when := range []int64{at, at - time.Second.Microseconds()*r.Int64N(60)} {
			got, want := c.FindBy(&handles[i], keys[i], when), c.Find(keys[i], when)
			if got != want {
				t.Fatalf("round %d, %s: %v, by its key %v", round, keys[i], got, want)
			}
			if got != nil {
				found++
			}
		}
	}
	if found == 0 {
		t.Error("nothing was found")
	}
}
