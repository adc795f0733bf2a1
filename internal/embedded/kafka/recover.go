package kafka

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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
