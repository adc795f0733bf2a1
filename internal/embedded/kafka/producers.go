package kafka

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

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
