package kafka

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	testSession = 6 * time.Second
	testJoin    = time.Minute // how long the members want to wait for each other
)

// testGroup is a broker whose clock is the bubble's.
type testGroup struct {
	t       *testing.T
	cluster *kfake.Cluster
	network *kfake.VirtualNetwork
}

// inGroup runs a test against a broker that is watched as the server watches its own.
func inGroup(t *testing.T, test func(g testGroup)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := &kfake.VirtualNetwork{}
		cluster, err := kfake.NewCluster(kfake.Ports(9092), kfake.NumBrokers(1), kfake.ListenFn(network.Listen),
			kfake.GroupMinSessionTimeout(shortestSession))
		if err != nil {
			t.Fatal(err)
		}
		g := testGroup{t: t, cluster: cluster, network: network}
		watched := watchMembers(cluster, slog.New(slog.DiscardHandler))
		t.Cleanup(cluster.Close)
		client, done := g.client(), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(done)
			watched.keep(ctx, cluster, client)
		}()
		t.Cleanup(func() {
			cancel()
			<-done
		})
		test(g)
	})
}

func (g testGroup) client() *kgo.Client {
	g.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(g.cluster.ListenAddrs()...), kgo.Dialer(g.network.DialContext))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(client.Close)
	return client
}

// testMember is a process in the group "g".
type testMember struct {
	g          testGroup
	client     *kgo.Client
	id         string
	generation int32
	leads      bool
}

func (g testGroup) member() *testMember {
	g.t.Helper()
	m := &testMember{g: g, client: g.client()}
	m.id = (<-m.join()).MemberID
	return m
}

// request sends a request and returns where its answer comes, which is nowhere when the client is closed before.
func request[R kmsg.Response](m *testMember, req kmsg.Request) <-chan R {
	answer := make(chan R, 1)
	go func() {
		if resp, err := m.client.Broker(0).Request(context.Background(), req); err == nil {
			answer <- resp.(R)
		}
	}()
	synctest.Wait()
	return answer
}

func (m *testMember) join() <-chan *kmsg.JoinGroupResponse {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = "g", m.id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(testSession.Milliseconds()), int32(testJoin.Milliseconds())
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "range"
	req.Protocols = append(req.Protocols, protocol)
	return request[*kmsg.JoinGroupResponse](m, req)
}

// joined takes the answer to a join.
func (m *testMember) joined(answer <-chan *kmsg.JoinGroupResponse) {
	m.g.t.Helper()
	select {
	case resp := <-answer:
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			m.g.t.Fatal(err)
		}
		m.generation, m.leads = resp.Generation, resp.LeaderID == m.id
	case <-time.After(testJoin / 2):
		m.g.t.Fatalf("no answer to a join; the group is %s", m.g.cluster.GroupInfo("g").State)
	}
}

func (m *testMember) sync() <-chan *kmsg.SyncGroupResponse {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = "g", m.id, m.generation
	return request[*kmsg.SyncGroupResponse](m, req)
}

// synced takes the answer to a sync.
func (m *testMember) synced(answer <-chan *kmsg.SyncGroupResponse, want error) {
	m.g.t.Helper()
	select {
	case resp := <-answer:
		if err := kerr.ErrorForCode(resp.ErrorCode); err != want { //nolint:errorlint // values of kerr are compared
			m.g.t.Fatalf("error %v, want %v", err, want)
		}
	case <-time.After(testJoin / 2):
		m.g.t.Fatalf("no answer to a sync; the group is %s", m.g.cluster.GroupInfo("g").State)
	}
}

// work sends heartbeats for so long.
func (m *testMember) work(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(testSession / 3) {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.Generation = "g", m.id, m.generation
		<-request[*kmsg.HeartbeatResponse](m, req)
	}
}

// settle brings members into a stable group, one after the other.
func settle(members ...*testMember) {
	for n := range members {
		rejoin(members[:n+1]...)
	}
	answers := make([]<-chan *kmsg.SyncGroupResponse, len(members))
	for i, m := range members {
		answers[i] = m.sync()
	}
	for i, m := range members {
		m.synced(answers[i], nil)
	}
}

// rejoin has members join, the last first, and returns when all are answered.
func rejoin(members ...*testMember) {
	answers := make([]<-chan *kmsg.JoinGroupResponse, len(members))
	for i, m := range slices.Backward(members) {
		answers[i] = m.join()
	}
	for i, m := range members {
		m.joined(answers[i])
	}
}

// expect compares who is in the group.
func (g testGroup) expect(state string, members ...*testMember) {
	g.t.Helper()
	var want, got []string
	for _, m := range members {
		want = append(want, m.id)
	}
	info := g.cluster.GroupInfo("g")
	for i := range info.Members {
		got = append(got, info.Members[i].MemberID)
	}
	slices.Sort(want)
	slices.Sort(got)
	if info.State != state || !slices.Equal(got, want) {
		g.t.Errorf("the group is %s with %q, want %s with %q", info.State, got, state, want)
	}
}

func TestWaitsForSlowMember(t *testing.T) {
	inGroup(t, func(g testGroup) {
		slow, quick, late := g.member(), g.member(), g.member()
		settle(slow, quick)
		lateJoin, quickJoin := late.join(), quick.join()
		slow.work(2 * testSession)
		slowJoin := slow.join()
		for m, answer := range map[*testMember]<-chan *kmsg.JoinGroupResponse{late: lateJoin, quick: quickJoin, slow: slowJoin} {
			m.joined(answer)
		}
		g.expect(completing, slow, quick, late)
	})
}

func TestLeaderDiesBeforeSync(t *testing.T) {
	inGroup(t, func(g testGroup) {
		leads, follows := g.member(), g.member()
		settle(leads)
		rejoin(leads, follows)
		sync := follows.sync()
		leads.client.Close()
		follows.synced(sync, kerr.RebalanceInProgress)
		settle(follows)
		g.expect("Stable", follows)
	})
}

func TestMemberDiesWaiting(t *testing.T) {
	inGroup(t, func(g testGroup) {
		stays, dies := g.member(), g.member()
		settle(stays)
		dies.join()
		dies.client.Close()
		synctest.Wait()
		rejoin(stays)
		stays.synced(stays.sync(), nil)
		g.expect("Stable", stays, dies)
		stays.work(2 * testSession)
		settle(stays)
		g.expect("Stable", stays)
	})
}

// TestLeavesInSync has the broker count one member less than have joined. The others are answered before their requests
// time out and they join again, for which the broker would wait anew.
func TestLeavesInSync(t *testing.T) {
	inGroup(t, func(g testGroup) {
		leads, stays, leaves := g.member(), g.member(), g.member()
		settle(leads)
		rejoin(leads, stays, leaves)
		leaves.sync()
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group, req.Members = "g", []kmsg.LeaveGroupRequestMember{{MemberID: leaves.id}}
		<-request[*kmsg.LeaveGroupResponse](leaves, req)
		staysJoin := stays.join()
		leads.work(longestJoin / 2)
		leads.joined(leads.join())
		stays.joined(staysJoin)
		g.expect(completing, leads, stays)
	})
}
