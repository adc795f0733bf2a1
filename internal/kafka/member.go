package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// leaveTimeout bounds leaving a consumer group; who has not left by then is taken for dead after the session timeout.
const leaveTimeout = 3 * time.Second

// NewMember returns a client that is a member of a consumer group, and what ends it. A client that has asked to join waits for the
// answer before it leaves, however long the group waits for another member: leave does not wait longer than some seconds.
func NewMember(ctx context.Context, cfg Config, opts ...kgo.Opt) (client *kgo.Client, leave func(), err error) {
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx))
	client, err = NewClient(cfg, append(opts, kgo.WithContext(lifetime))...)
	if err != nil {
		end()
		return nil, nil, err
	}
	return client, func() {
		defer end()
		defer time.AfterFunc(leaveTimeout, end).Stop()
		client.CloseAllowingRebalance()
	}, nil
}
