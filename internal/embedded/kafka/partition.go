package kafka

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	segmentSuffix = ".dat"
	indexSuffix   = ".idx"
	indexEntry    = 15
	snapshotFile  = "snapshot.json"

	// A record batch: first offset and length, then a header that the checksum does not cover
	// up to its attributes.
	batchPrefix = 12
	batchCRC    = 17
	batchSummed = 21
	batchHeader = 61

	attrTransactional = 0x10
	attrControl       = 0x20
	windowSize        = 5
)

// snapshot is the broker's summary of a partition. With one that fits the segments it starts
// without reading whole batches into memory.
type snapshot struct {
	Version          int           `json:"version"`
	HighWatermark    int64         `json:"high_watermark"`
	LastStableOffset int64         `json:"last_stable_offset"`
	LogStartOffset   int64         `json:"log_start_offset"`
	Epoch            int32         `json:"epoch"`
	LeaderNode       int32         `json:"leader_node,omitempty"`
	MaxTimestamp     int64         `json:"max_timestamp"`
	CreatedAt        time.Time     `json:"created_at"`
	AbortedTxns      []abortedTxn  `json:"aborted_txns,omitempty"`
	Segments         []segmentInfo `json:"segments"`
}

type abortedTxn struct {
	ProducerID  int64 `json:"producer_id"`
	FirstOffset int64 `json:"first_offset"`
	LastOffset  int64 `json:"last_offset"`
}

type segmentInfo struct {
	BaseOffset int64 `json:"base_offset"`
	Size       int64 `json:"size"`
	MinEpoch   int32 `json:"min_epoch,omitempty"`
	MaxEpoch   int32 `json:"max_epoch,omitempty"`
	batches    int64
}

// openTxn is a transaction that has data but no end in a partition.
type openTxn struct {
	first int64
	epoch int16
}

// sequences are the last batches of one producer, by which a repeated one is known.
type sequences struct {
	epoch   int16
	next    int32
	entries []sequence
}

type sequence struct {
	FirstSeq int32 `json:"first_seq"`
	NextSeq  int32 `json:"next_seq"`
	Offset   int64 `json:"offset"`
}

// partition is what the segments of one partition say.
type partition struct {
	topic string
	id    int32
	dir   string

	segments []segmentInfo
	first    int64
	next     int64
	epoch    int32
	maxTime  int64
	created  time.Time
	open     map[int64]openTxn
	// ended are the epochs of the last transactions that have an end.
	ended     map[int64]int16
	aborted   []abortedTxn
	producers map[int64]*sequences
	// damaged is how many bytes were cut off.
	damaged int64
}

// segmentBases lists the segments of a partition directory, oldest first.
func segmentBases(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), segmentSuffix); ok {
			if base, err := strconv.ParseInt(name, 10, 64); err == nil {
				bases = append(bases, base)
			}
		}
	}
	slices.Sort(bases)
	return bases, nil
}

func segmentPath(dir string, base int64, suffix string) string {
	return filepath.Join(dir, strconv.FormatInt(base, 10)+suffix)
}

func newPartition(topic string, id int32, dir string) *partition {
	return &partition{
		topic: topic, id: id, dir: dir, first: -1,
		open: make(map[int64]openTxn), ended: make(map[int64]int16),
		producers: make(map[int64]*sequences),
	}
}

// scanPartition reads all batches of a partition, cuts off damaged ends and makes the index of
// batches as long as there are batches.
func scanPartition(topic string, id int32, dir string) (*partition, error) {
	bases, err := segmentBases(dir)
	if err != nil {
		return nil, fmt.Errorf("listing segments: %w", err)
	}
	p := newPartition(topic, id, dir)
	for _, base := range bases {
		if err := p.scanSegment(base); err != nil {
			return nil, fmt.Errorf("reading segment %d of %s/%d: %w", base, topic, id, err)
		}
	}
	return p, nil
}

func (p *partition) scanSegment(base int64) error {
	path := segmentPath(p.dir, base, segmentSuffix)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	seg := segmentInfo{BaseOffset: base}
	in := bufio.NewReaderSize(file, 1<<20)
	var buf []byte
	for {
		buf, err = readBatch(in, buf, info.Size()-seg.Size)
		if err != nil {
			break
		}
		var batch kmsg.RecordBatch
		if err := batch.ReadFrom(buf); err != nil {
			return err
		}
		p.add(&batch)
		seg.Size += int64(len(buf))
		seg.batches++
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, errDamaged) {
		return err
	}
	if info.Size() > seg.Size {
		p.damaged += info.Size() - seg.Size
		if err := file.Truncate(seg.Size); err != nil {
			return err
		}
	}
	if seg.batches == 0 {
		// An empty segment would tell the broker that the partition starts at zero.
		return errors.Join(os.Remove(path), removeIfThere(segmentPath(p.dir, base, indexSuffix)))
	}
	seg.MinEpoch, seg.MaxEpoch = p.epoch, p.epoch
	p.segments = append(p.segments, seg)
	return p.fitIndex(seg)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

var errDamaged = errors.New("damaged batch")

// readBatch returns the next batch, in buf when it is large enough. No more than rest bytes are
// left, whatever a damaged length says.
func readBatch(in *bufio.Reader, buf []byte, rest int64) ([]byte, error) {
	prefix, err := in.Peek(batchPrefix)
	if len(prefix) == 0 {
		return buf, err
	}
	if len(prefix) < batchPrefix {
		return buf, errDamaged
	}
	length := int(binary.BigEndian.Uint32(prefix[8:]))
	if length < batchHeader-batchPrefix || int64(length) > rest-batchPrefix {
		return buf, errDamaged
	}
	size := batchPrefix + length
	buf = slices.Grow(buf[:0], size)[:size]
	if _, err := io.ReadFull(in, buf); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return buf, errDamaged
		}
		return buf, err
	}
	if castagnoli(buf[batchSummed:]) != binary.BigEndian.Uint32(buf[batchCRC:]) {
		return buf, errDamaged
	}
	return buf, nil
}

// add follows offsets, transactions and sequences over one more batch.
func (p *partition) add(b *kmsg.RecordBatch) {
	if p.first < 0 {
		p.first = b.FirstOffset
		p.created = time.UnixMilli(b.FirstTimestamp)
	}
	p.next = b.FirstOffset + int64(b.LastOffsetDelta) + 1
	p.epoch = max(p.epoch, b.PartitionLeaderEpoch)
	p.maxTime = max(p.maxTime, b.MaxTimestamp)
	switch {
	case b.Attributes&attrControl != 0:
		p.end(b)
		return
	case b.Attributes&attrTransactional != 0:
		if _, ok := p.open[b.ProducerID]; !ok {
			p.open[b.ProducerID] = openTxn{first: b.FirstOffset, epoch: b.ProducerEpoch}
		}
	}
	if b.ProducerID < 0 || b.FirstSequence < 0 {
		return
	}
	seen := p.producers[b.ProducerID]
	if seen == nil || seen.epoch != b.ProducerEpoch {
		seen = &sequences{epoch: b.ProducerEpoch}
		p.producers[b.ProducerID] = seen
	}
	seen.next = int32((int64(b.FirstSequence) + int64(b.NumRecords)) % math.MaxInt32)
	seen.entries = append(seen.entries, sequence{b.FirstSequence, seen.next, b.FirstOffset})
	if extra := len(seen.entries) - windowSize; extra > 0 {
		seen.entries = slices.Delete(seen.entries, 0, extra)
	}
}

// end closes the open transaction of a control batch's producer.
func (p *partition) end(b *kmsg.RecordBatch) {
	p.ended[b.ProducerID] = b.ProducerEpoch
	txn, ok := p.open[b.ProducerID]
	if !ok {
		return
	}
	delete(p.open, b.ProducerID)
	var (
		record kmsg.Record
		key    kmsg.ControlRecordKey
	)
	committed := record.ReadFrom(b.Records) == nil && key.ReadFrom(record.Key) == nil &&
		key.Type == kmsg.ControlRecordKeyTypeCommit
	if !committed {
		p.aborted = append(p.aborted, abortedTxn{b.ProducerID, txn.first, b.FirstOffset})
	}
}

// endTxn appends the batch that ends a transaction.
func (p *partition) endTxn(pid int64, epoch int16, commit bool) error {
	return p.append(controlBatch(p.next, p.epoch, pid, epoch, commit))
}

// append adds a batch to the last segment, or starts the first one.
func (p *partition) append(batch kmsg.RecordBatch) error {
	if len(p.segments) == 0 {
		if err := os.MkdirAll(p.dir, 0o750); err != nil {
			return err
		}
		p.segments = append(p.segments, segmentInfo{BaseOffset: batch.FirstOffset})
	}
	seg := &p.segments[len(p.segments)-1]
	raw := batch.AppendTo(nil)
	if err := appendToFile(segmentPath(p.dir, seg.BaseOffset, segmentSuffix), raw); err != nil {
		return err
	}
	p.add(&batch)
	seg.Size += int64(len(raw))
	seg.batches++
	return p.fitIndex(*seg)
}

// fitIndex makes a segment's index as long as the segment has batches: the broker pairs them by
// position, and a crash between the two writes would shift all that follow.
func (p *partition) fitIndex(seg segmentInfo) error {
	path := segmentPath(p.dir, seg.BaseOffset, indexSuffix)
	var have int64
	if info, err := os.Stat(path); err == nil {
		have = info.Size()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	want := seg.batches * indexEntry
	if keep := min(have-have%indexEntry, want); keep < have {
		if err := os.Truncate(path, keep); err != nil {
			return err
		}
		have = keep
	}
	if have == want {
		return nil
	}
	var missing []byte
	for range (want - have) / indexEntry {
		entry := make([]byte, indexEntry)
		entry[0] = formatVersion
		binary.LittleEndian.PutUint32(entry[2:], uint32(p.epoch))
		binary.LittleEndian.PutUint64(entry[6:], uint64(p.maxTime))
		entry[1] = byte(castagnoli(entry[2:]))
		missing = append(missing, entry...)
	}
	return appendToFile(path, missing)
}

// snapshot sums the partition up. Offsets deleted before the last summary stay deleted.
func (p *partition) snapshot(logStart int64) snapshot {
	stable := p.next
	for txn := range maps.Values(p.open) {
		stable = min(stable, txn.first)
	}
	slices.SortFunc(p.aborted, func(a, b abortedTxn) int { return cmp.Compare(a.LastOffset, b.LastOffset) })
	return snapshot{
		Version:          formatVersion,
		HighWatermark:    p.next,
		LastStableOffset: stable,
		LogStartOffset:   min(max(p.first, logStart), p.next),
		Epoch:            p.epoch,
		MaxTimestamp:     p.maxTime,
		CreatedAt:        p.created,
		AbortedTxns:      p.aborted,
		Segments:         p.segments,
	}
}

// controlBatch builds the batch of one record that ends a transaction.
func controlBatch(offset int64, leaderEpoch int32, pid int64, epoch int16, commit bool) kmsg.RecordBatch {
	key := kmsg.ControlRecordKey{Type: kmsg.ControlRecordKeyTypeAbort}
	if commit {
		key.Type = kmsg.ControlRecordKeyTypeCommit
	}
	marker := kmsg.EndTxnMarker{}
	record := kmsg.Record{Key: key.AppendTo(nil), Value: marker.AppendTo(nil)}
	// The length does not count itself, which is one byte long for a record this short.
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	now := time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		FirstOffset:          offset,
		PartitionLeaderEpoch: leaderEpoch,
		Magic:                2,
		Attributes:           attrTransactional | attrControl,
		FirstTimestamp:       now,
		MaxTimestamp:         now,
		ProducerID:           pid,
		ProducerEpoch:        epoch,
		FirstSequence:        -1,
		NumRecords:           1,
		Records:              record.AppendTo(nil),
	}
	raw := batch.AppendTo(nil)
	batch.Length = int32(len(raw) - batchPrefix)
	batch.CRC = int32(castagnoli(batch.AppendTo(nil)[batchSummed:]))
	return batch
}
