package kafka

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// The broker keeps topics, groups and producers in files, but some of what makes a transaction
// whole only in memory. Recovery runs before the broker reads its files:
//
//   - a transaction whose end had been decided is ended in every partition and group;
//   - one that was open is open again, with the offsets it will commit;
//   - the last batches of every producer are known again, so a retry is not stored twice;
//   - damaged ends of files are cut off, an interrupted compaction is undone;
//   - every partition gets a summary, with which the broker needs not hold whole logs in memory.

// recovery is one run of it.
type recovery struct {
	dir     string // the broker's files
	home    string // the directory around them
	log     *slog.Logger
	topics  []topicInfo
	parts   []*partition
	pids    map[int64]*producer
	entries []journalEntry
}

type topicInfo struct {
	Name       string `json:"name"`
	ID         []byte `json:"id"`
	Partitions int32  `json:"partitions"`
}

// producer is what the log of producers says about one.
type producer struct {
	pidEntry
	settledAt int64
	ended     bool
}

// pidEntry is an entry of the log of producers.
type pidEntry struct {
	Type    string `json:"type"`
	PID     int64  `json:"pid"`
	Epoch   int16  `json:"epoch"`
	TxID    string `json:"txid,omitempty"`
	Timeout int32  `json:"timeout,omitempty"`
	Commit  *bool  `json:"commit,omitempty"`
}

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

func (r *recovery) groupsLog() string     { return filepath.Join(r.dir, "groups.log") }
func (r *recovery) pidsLog() string       { return filepath.Join(r.dir, "pids.log") }
func (r *recovery) sessionFile() string   { return filepath.Join(r.dir, "session_state.json") }
func (r *recovery) windowsFile() string   { return filepath.Join(r.dir, "seq_windows.json") }
func (r *recovery) journalFile() string   { return filepath.Join(r.home, journalFile) }
func (r *recovery) cleanFile() string     { return filepath.Join(r.home, cleanFile) }
func (r *recovery) offsetsFile() string   { return filepath.Join(r.home, offsetsFile) }
func (r *recovery) compactingDir() string { return filepath.Join(r.home, compactingDir) }

func partitionDir(dir, topic string, id int32) string {
	return filepath.Join(dir, "partitions", url.PathEscape(topic)+"-"+strconv.Itoa(int(id)))
}

// run makes the files fit for the broker and returns the journal's entries of transactions that
// are still open.
func (r *recovery) run() ([]journalEntry, error) {
	var meta struct {
		Version int `json:"version"`
	}
	found, err := readJSON(filepath.Join(r.dir, metaFile), &meta)
	if err != nil || !found {
		return nil, err
	}
	if meta.Version != formatVersion {
		return nil, fmt.Errorf("the files in %s have format %d, this program knows %d; "+
			"start it on another directory", r.dir, meta.Version, formatVersion)
	}
	var topics struct {
		Topics []topicInfo `json:"topics"`
	}
	if _, err := readJSON(filepath.Join(r.dir, "topics.json"), &topics); err != nil {
		return nil, err
	}
	r.topics = topics.Topics
	if err := r.undoCompaction(); err != nil {
		return nil, fmt.Errorf("undoing an interrupted compaction: %w", err)
	}
	err = os.Remove(r.cleanFile())
	switch {
	case err == nil:
		if err := r.keepOffsets(); err != nil {
			return nil, err
		}
		return r.openAtShutdown()
	case errors.Is(err, fs.ErrNotExist):
		return r.afterCrash()
	default:
		return nil, err
	}
}

// openAtShutdown returns the transactions that an orderly end left open.
func (r *recovery) openAtShutdown() ([]journalEntry, error) {
	var left session
	if _, err := readJSON(r.sessionFile(), &left); err != nil {
		return nil, err
	}
	pids, err := r.readProducers()
	if err != nil {
		return nil, err
	}
	var open []journalEntry
	for _, txn := range left.InProgressTxns {
		known, ok := pids[txn.PID]
		if !ok {
			continue
		}
		for group, topics := range txn.Offsets {
			entry := journalEntry{Type: journalOffsets, PID: txn.PID, Epoch: known.Epoch, Group: group}
			for topic, parts := range topics {
				for id, o := range parts {
					entry.Offsets = append(entry.Offsets, stagedOffset{
						Topic: topic, Partition: id, Offset: o.Offset, Epoch: o.Epoch, Metadata: o.Metadata,
					})
				}
			}
			open = append(open, entry)
		}
	}
	return open, nil
}

func (r *recovery) afterCrash() ([]journalEntry, error) {
	r.log.Info("kafka did not end in order, reading its logs")
	started := time.Now()
	// What the last orderly end handed over is out of date.
	if err := errors.Join(removeIfThere(r.sessionFile()), removeIfThere(r.windowsFile())); err != nil {
		return nil, err
	}
	var err error
	if r.pids, err = r.readProducers(); err != nil {
		return nil, err
	}
	if _, err := readFrames(r.groupsLog()); err != nil {
		return nil, fmt.Errorf("reading the log of groups: %w", err)
	}
	if r.entries, err = readJournal(r.journalFile()); err != nil {
		return nil, err
	}
	r.nameTopics()
	for _, topic := range r.topics {
		for id := range topic.Partitions {
			part, err := scanPartition(topic.Name, id, partitionDir(r.dir, topic.Name, id))
			if err != nil {
				return nil, err
			}
			if part.damaged > 0 {
				r.log.Warn("kafka cut off a batch that was never acknowledged",
					"topic", part.topic, "partition", part.id, "bytes", part.damaged)
			}
			r.parts = append(r.parts, part)
		}
	}
	if err := r.finishDecided(); err != nil {
		return nil, fmt.Errorf("ending a decided transaction: %w", err)
	}
	open, err := r.reopen()
	if err != nil {
		return nil, fmt.Errorf("opening transactions again: %w", err)
	}
	if err := errors.Join(r.keepOffsets(), r.writeProducers(), r.writeWindows(), r.writeSnapshots()); err != nil {
		return nil, err
	}
	r.log.Info("kafka is recovered", "partitions", len(r.parts), "took", time.Since(started).Round(time.Millisecond))
	return open, nil
}

// nameTopics puts names in place of topic ids; offsets of deleted topics go with them.
func (r *recovery) nameTopics() {
	names := make(map[string]string)
	for _, topic := range r.topics {
		names[string(topic.ID)] = topic.Name
	}
	for i := range r.entries {
		offsets := r.entries[i].Offsets
		r.entries[i].Offsets = slices.DeleteFunc(offsets, func(o stagedOffset) bool {
			return o.Topic == "" && names[string(o.TopicID)] == ""
		})
		for j := range r.entries[i].Offsets {
			if o := &r.entries[i].Offsets[j]; o.Topic == "" {
				o.Topic, o.TopicID = names[string(o.TopicID)], nil
			}
		}
	}
}

// readProducers replays the log of producers.
func (r *recovery) readProducers() (map[int64]*producer, error) {
	frames, err := readFrames(r.pidsLog())
	if err != nil {
		return nil, fmt.Errorf("reading the log of producers: %w", err)
	}
	pids := make(map[int64]*producer)
	for _, frame := range frames {
		var entry pidEntry
		if err := json.Unmarshal(frame.data, &entry); err != nil {
			return nil, fmt.Errorf("reading the log of producers: %w", err)
		}
		known := pids[entry.PID]
		switch {
		case known == nil || entry.Type == "init":
			next := &producer{pidEntry: entry}
			if known != nil && entry.Commit == nil {
				// A new epoch does not say how the last transaction ended, but a client
				// whose answer got lost will ask.
				next.Commit = known.Commit
			}
			if entry.TxID == "" && known != nil {
				next.TxID, next.Timeout = known.TxID, known.Timeout
			}
			pids[entry.PID] = next
		default:
			known.Epoch = entry.Epoch
			if entry.Commit != nil {
				known.Commit = entry.Commit
			}
		}
		pids[entry.PID].settledAt = frame.at
	}
	return pids, nil
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

// writeProducers sums the log of producers up, as the broker does at an orderly end.
func (r *recovery) writeProducers() error {
	var out []byte
	// A transactional id belongs to the producer that got it last.
	inOrder := slices.SortedFunc(maps.Values(r.pids), func(a, b *producer) int {
		return cmp.Compare(a.settledAt, b.settledAt)
	})
	for _, known := range inOrder {
		entry := known.pidEntry
		entry.Type = "init"
		var err error
		if out, err = appendFrame(out, entry); err != nil {
			return err
		}
	}
	return writeFile(r.pidsLog(), out)
}

// sequenceWindow is the broker's memory of a producer's last batches in one partition.
type sequenceWindow struct {
	PID     int64                `json:"pid"`
	Topic   string               `json:"topic"`
	Part    int32                `json:"partition"`
	Entries [windowSize]sequence `json:"entries"`
	Count   int                  `json:"count"`
	At      int                  `json:"at"`
	Epoch   int16                `json:"epoch"`
	Seen    bool                 `json:"seen"`
	NextSeq int32                `json:"next_seq"`
}

func (r *recovery) writeWindows() error {
	var file struct {
		Version int              `json:"version"`
		Windows []sequenceWindow `json:"windows"`
	}
	file.Version = formatVersion
	for _, part := range r.parts {
		for pid, seen := range part.producers {
			if r.pids[pid] == nil {
				continue
			}
			window := sequenceWindow{
				PID: pid, Topic: part.topic, Part: part.id, Count: len(seen.entries),
				At: len(seen.entries) % windowSize, Epoch: seen.epoch, Seen: true, NextSeq: seen.next,
			}
			copy(window.Entries[:], seen.entries)
			file.Windows = append(file.Windows, window)
		}
	}
	return writeJSON(r.windowsFile(), file)
}

func (r *recovery) writeSnapshots() error {
	for _, part := range r.parts {
		path := filepath.Join(part.dir, snapshotFile)
		if len(part.segments) == 0 {
			continue
		}
		// Only what was deleted before the last orderly end is known to be deleted.
		var last snapshot
		if _, err := readJSON(path, &last); err != nil {
			r.log.Warn("kafka ignores the summary of a partition",
				"topic", part.topic, "partition", part.id, "err", err)
		}
		if err := writeJSON(path, part.snapshot(last.LogStartOffset)); err != nil {
			return fmt.Errorf("writing the summary of %s/%d: %w", part.topic, part.id, err)
		}
	}
	return nil
}
