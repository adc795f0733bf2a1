package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// journalLimit is the size at which the journal is rewritten without what has ended.
const journalLimit = 1 << 20

// The kinds of entries in the journal.
const (
	journalOffsets = "offsets"
	journalEnd     = "end"
)

// journalEntry is what the broker itself keeps in memory only: the offsets that a transaction
// will commit, and the decision to end it, which the broker then carries out in many writes.
type journalEntry struct {
	Type  string `json:"type"`
	PID   int64  `json:"pid"`
	Epoch int16  `json:"epoch"`
	// At is the length of the log of producers when the entry was written: what that log says
	// about the producer later shows that the entry is settled.
	At int64 `json:"at"`

	Group   string         `json:"group,omitempty"`
	Offsets []stagedOffset `json:"offsets,omitempty"`

	Commit  bool  `json:"commit,omitempty"`
	Version int16 `json:"version,omitempty"`
}

// stagedOffset names its topic by name or, as newer clients do, by id.
type stagedOffset struct {
	Topic     string  `json:"t,omitempty"`
	TopicID   []byte  `json:"id,omitempty"`
	Partition int32   `json:"p"`
	Offset    int64   `json:"o"`
	Epoch     int32   `json:"e,omitempty"`
	Metadata  *string `json:"m,omitempty"`
}

// journal writes down what recovery needs to finish a transaction as a whole. It sees requests
// before the broker does, one at a time.
type journal struct {
	path      string
	producers string

	mu   sync.Mutex
	file *os.File
	size int64
	// staged are the entries of transactions that may be open, by producer.
	staged map[int64][]journalEntry
	// ended is the producer whose transaction the previous request ended.
	ended int64
}

// openJournal starts a journal that holds the entries of open transactions.
func openJournal(path, producers string, open []journalEntry) (*journal, error) {
	j := &journal{path: path, producers: producers, staged: make(map[int64][]journalEntry), ended: -1}
	for _, entry := range open {
		entry.At = j.producersSize()
		j.staged[entry.PID] = append(j.staged[entry.PID], entry)
	}
	if err := j.rewrite(); err != nil {
		return nil, fmt.Errorf("writing the journal of transactions: %w", err)
	}
	return j, nil
}

func (j *journal) producersSize() int64 {
	info, err := os.Stat(j.producers)
	if err != nil {
		return 0
	}
	return info.Size()
}

// rewrite replaces the file by one that holds only what may be open.
func (j *journal) rewrite() error {
	var out []byte
	for _, entries := range j.staged {
		for _, entry := range entries {
			var err error
			if out, err = appendFrame(out, entry); err != nil {
				return err
			}
		}
	}
	if err := writeFile(j.path, out); err != nil {
		return err
	}
	file, err := os.OpenFile(j.path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if j.file != nil {
		err = j.file.Close()
	}
	j.file, j.size = file, int64(len(out))
	return err
}

func (j *journal) add(entry journalEntry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	// The broker has carried out the previous request before it shows the next one.
	if j.ended >= 0 {
		delete(j.staged, j.ended)
		j.ended = -1
	}
	if j.size > journalLimit {
		if err := j.rewrite(); err != nil {
			return err
		}
	}
	entry.At = j.producersSize()
	line, err := appendFrame(nil, entry)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(line); err != nil {
		return err
	}
	j.size += int64(len(line))
	if entry.Type == journalEnd {
		j.ended = entry.PID
	} else {
		j.staged[entry.PID] = append(j.staged[entry.PID], entry)
	}
	return nil
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}

// watch has the broker show every request that matters to the journal before it handles it. A
// request that cannot be written down is not handled: its connection closes and the client
// tries again.
func (j *journal) watch(cluster *kfake.Cluster) {
	observe := func(entry func(kmsg.Request) journalEntry) func(kmsg.Request) (kmsg.Response, error, bool) {
		return func(req kmsg.Request) (kmsg.Response, error, bool) {
			if err := j.add(entry(req)); err != nil {
				cluster.KeepControl()
				return nil, fmt.Errorf("writing the journal of transactions: %w", err), true
			}
			return nil, nil, false
		}
	}
	cluster.ControlKey(int16(kmsg.TxnOffsetCommit), observe(stagedEntry))
	cluster.ControlKey(int16(kmsg.EndTxn), observe(endEntry))
}

func stagedEntry(request kmsg.Request) journalEntry {
	req, ok := request.(*kmsg.TxnOffsetCommitRequest)
	if !ok {
		return journalEntry{}
	}
	entry := journalEntry{Type: journalOffsets, PID: req.ProducerID, Epoch: req.ProducerEpoch, Group: req.Group}
	for _, topic := range req.Topics {
		for _, part := range topic.Partitions {
			offset := stagedOffset{
				Topic: topic.Topic, Partition: part.Partition, Offset: part.Offset,
				Epoch: part.LeaderEpoch, Metadata: part.Metadata,
			}
			if topic.Topic == "" {
				offset.TopicID = topic.TopicID[:]
			}
			entry.Offsets = append(entry.Offsets, offset)
		}
	}
	return entry
}

func endEntry(request kmsg.Request) journalEntry {
	req, ok := request.(*kmsg.EndTxnRequest)
	if !ok {
		return journalEntry{}
	}
	return journalEntry{
		Type: journalEnd, PID: req.ProducerID, Epoch: req.ProducerEpoch,
		Commit: req.Commit, Version: req.Version,
	}
}

// readJournal returns the entries of the last run.
func readJournal(path string) ([]journalEntry, error) {
	frames, err := readFrames(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the journal of transactions: %w", err)
	}
	entries := make([]journalEntry, 0, len(frames))
	for _, frame := range frames {
		var entry journalEntry
		if err := json.Unmarshal(frame.data, &entry); err != nil {
			return nil, fmt.Errorf("reading the journal of transactions: %w", err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}
