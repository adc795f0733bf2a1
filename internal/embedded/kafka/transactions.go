package kafka

import (
	"math"
	"time"
)

// groupEntry is an entry of the log of groups.
type groupEntry struct {
	Type       string  `json:"type"`
	Group      string  `json:"g"`
	Topic      string  `json:"t,omitempty"`
	Part       int32   `json:"p,omitempty"`
	Offset     int64   `json:"o,omitempty"`
	Epoch      int32   `json:"e,omitempty"`
	Metadata   *string `json:"m,omitempty"`
	LastCommit *int64  `json:"lc,omitempty"`
}

// session is what the broker hands from an orderly end to the next start.
type session struct {
	ShutdownAt     time.Time    `json:"shutdownAt"`
	InProgressTxns []sessionTxn `json:"inProgressTxns,omitempty"`
}

type sessionTxn struct {
	PID          int64                                           `json:"pid"`
	TxStart      time.Time                                       `json:"txStart"`
	FirstOffsets map[string]map[int32]int64                      `json:"txPartFirstOffsets"`
	Groups       []string                                        `json:"txGroups,omitempty"`
	Offsets      map[string]map[string]map[int32]sessionTxOffset `json:"txOffsets,omitempty"`
}

type sessionTxOffset struct {
	Offset   int64   `json:"o"`
	Epoch    int32   `json:"e,omitempty"`
	Metadata *string `json:"m,omitempty"`
}

// current reports whether an entry of the journal belongs to a transaction that the log of
// producers does not know to be over.
func (r *recovery) current(entry journalEntry) bool {
	known := r.pids[entry.PID]
	return known != nil && known.TxID != "" && known.Epoch == entry.Epoch && known.settledAt < entry.At
}

// finishDecided carries out the end of a transaction that the broker had begun to carry out.
func (r *recovery) finishDecided() error {
	if len(r.entries) == 0 {
		return nil
	}
	// Requests are handled one after another, so only the last one can be unfinished.
	end := r.entries[len(r.entries)-1]
	if end.Type != journalEnd || !r.current(end) {
		return nil
	}
	found, err := r.mark(end)
	if err != nil {
		return err
	}
	staged := r.stagedBy(end.PID)
	if !found && len(staged) == 0 {
		return nil
	}
	if end.Commit {
		if err := r.commitOffsets(staged); err != nil {
			return err
		}
	}
	r.log.Info("kafka ends a decided transaction", "producer", end.PID, "commit", end.Commit)
	known := r.pids[end.PID]
	known.Commit, known.ended = &end.Commit, true
	// From this version on a client takes a new epoch for every transaction.
	if end.Version >= 5 && known.Epoch < math.MaxInt16-1 {
		known.Epoch++
	}
	return nil
}

// mark ends a transaction in every partition and reports whether it has ended in any.
func (r *recovery) mark(end journalEntry) (bool, error) {
	var found bool
	for _, part := range r.parts {
		if epoch, ok := part.ended[end.PID]; ok && epoch == end.Epoch {
			found = true
		}
		if txn, ok := part.open[end.PID]; ok && txn.epoch == end.Epoch {
			found = true
			if err := part.endTxn(end.PID, end.Epoch, end.Commit); err != nil {
				return false, err
			}
		}
	}
	return found, nil
}

func (r *recovery) commitOffsets(staged []journalEntry) error {
	var commits []byte
	now := time.Now().UnixMilli()
	for _, entry := range staged {
		for _, o := range entry.Offsets {
			var err error
			commits, err = appendFrame(commits, groupEntry{
				Type: "commit", Group: entry.Group, Topic: o.Topic, Part: o.Partition,
				Offset: o.Offset, Epoch: o.Epoch, Metadata: o.Metadata, LastCommit: &now,
			})
			if err != nil {
				return err
			}
		}
	}
	return appendToFile(r.groupsLog(), commits)
}

// stagedBy returns the offsets that the open transaction of a producer will commit.
func (r *recovery) stagedBy(pid int64) []journalEntry {
	var staged []journalEntry
	for _, entry := range r.entries {
		if entry.PID == pid && entry.Type == journalOffsets && r.current(entry) {
			staged = append(staged, entry)
		}
	}
	return staged
}

// reopen hands the open transactions to the broker and ends those that nobody can go on with.
func (r *recovery) reopen() ([]journalEntry, error) {
	txns := make(map[int64]*sessionTxn)
	txnOf := func(pid int64) *sessionTxn {
		if txns[pid] == nil {
			txns[pid] = &sessionTxn{PID: pid, TxStart: time.Now(), FirstOffsets: make(map[string]map[int32]int64)}
		}
		return txns[pid]
	}
	for _, part := range r.parts {
		for pid, txn := range part.open {
			known := r.pids[pid]
			if known == nil || known.TxID == "" || known.Epoch != txn.epoch || known.ended {
				if err := part.endTxn(pid, txn.epoch, false); err != nil {
					return nil, err
				}
				continue
			}
			offsets := txnOf(pid).FirstOffsets
			if offsets[part.topic] == nil {
				offsets[part.topic] = make(map[int32]int64)
			}
			offsets[part.topic][part.id] = txn.first
		}
	}
	var open []journalEntry
	for pid, known := range r.pids {
		if known.ended {
			continue
		}
		for _, entry := range r.stagedBy(pid) {
			open = append(open, entry)
			txnOf(pid).stage(entry)
		}
	}
	if len(txns) == 0 {
		return nil, nil
	}
	state := session{ShutdownAt: time.Now()}
	for _, txn := range txns {
		r.log.Info("kafka opens a transaction again", "producer", txn.PID)
		state.InProgressTxns = append(state.InProgressTxns, *txn)
	}
	return open, writeJSON(r.sessionFile(), state)
}

func (t *sessionTxn) stage(entry journalEntry) {
	if t.Offsets == nil {
		t.Offsets = make(map[string]map[string]map[int32]sessionTxOffset)
	}
	if t.Offsets[entry.Group] == nil {
		t.Offsets[entry.Group] = make(map[string]map[int32]sessionTxOffset)
		t.Groups = append(t.Groups, entry.Group)
	}
	for _, o := range entry.Offsets {
		if t.Offsets[entry.Group][o.Topic] == nil {
			t.Offsets[entry.Group][o.Topic] = make(map[int32]sessionTxOffset)
		}
		t.Offsets[entry.Group][o.Topic][o.Partition] = sessionTxOffset{o.Offset, o.Epoch, o.Metadata}
	}
}
