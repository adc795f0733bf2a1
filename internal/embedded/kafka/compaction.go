package kafka

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kadm"
)

// linkSegments gives the segments of a directory a second name in another.
func linkSegments(from, to string) error {
	bases, err := segmentBases(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, base := range bases {
		for _, suffix := range []string{segmentSuffix, indexSuffix} {
			err := os.Link(segmentPath(from, base, suffix), segmentPath(to, base, suffix))
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}

// knownOffsets are the ends of partitions, by topic.
type knownOffsets map[string]map[int32]int64

func (j *janitor) rememberOffsets(ends kadm.ListedOffsets) error {
	known := make(knownOffsets)
	ends.Each(func(end kadm.ListedOffset) {
		if known[end.Topic] == nil {
			known[end.Topic] = make(map[int32]int64)
		}
		known[end.Topic][end.Partition] = end.Offset
	})
	return writeJSON(filepath.Join(j.server.cfg.Dir, offsetsFile), known)
}

// keepOffsets gives every partition that lost its last record a batch without one, so that its
// offsets go on where they were.
func (r *recovery) keepOffsets() error {
	var known knownOffsets
	if _, err := readJSON(r.offsetsFile(), &known); err != nil {
		return err
	}
	scanned := make(map[string]*partition)
	for _, part := range r.parts {
		scanned[part.dir] = part
	}
	for _, topic := range r.topics {
		for id := range topic.Partitions {
			dir := partitionDir(r.dir, topic.Name, id)
			bases, err := segmentBases(dir)
			if err != nil {
				return err
			}
			if len(bases) > 0 {
				continue
			}
			var last snapshot
			if _, err := readJSON(filepath.Join(dir, snapshotFile), &last); err != nil {
				return err
			}
			next := max(known[topic.Name][id], last.HighWatermark)
			if next == 0 {
				continue
			}
			part := scanned[dir]
			if part == nil {
				part = newPartition(topic.Name, id, dir)
			}
			part.epoch = last.Epoch
			if err := part.append(controlBatch(next, last.Epoch, -1, -1, false)); err != nil {
				return fmt.Errorf("keeping the offsets of %s/%d: %w", topic.Name, id, err)
			}
		}
	}
	return nil
}

// undoCompaction puts the linked segments of a partition back unless its compaction was done: a
// compaction never drops the last batch, and writes it last.
func (r *recovery) undoCompaction() error {
	links, err := os.ReadDir(r.compactingDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, link := range links {
		kept := filepath.Join(r.compactingDir(), link.Name())
		dir := filepath.Join(r.dir, "partitions", link.Name())
		name, _ := url.PathUnescape(link.Name())
		before, err := scanPartition(name, 0, kept)
		if err != nil {
			return err
		}
		after, err := scanPartition(name, 0, dir)
		if err != nil {
			return err
		}
		if after.next >= before.next {
			continue
		}
		r.log.Warn("kafka undoes an interrupted compaction", "topic", name)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.Rename(kept, dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(r.compactingDir())
}
