package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// checkpointVersion is the version of the checkpoint file.
const checkpointVersion = 1

// checkpoint holds what was published of every content. It is written as a whole, so that
// a crash leaves either the old or the new one.
type checkpoint struct {
	path    string
	lock    *os.File
	entries []*entry
	dirty   bool
}

type checkpointFile struct {
	Version int      `json:"version"`
	Files   []*entry `json:"files"`
}

// openCheckpoint reads the checkpoint and keeps other processes from using it.
func openCheckpoint(path string) (*checkpoint, error) {
	c := &checkpoint{path: path}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("creating the directory of the checkpoint: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the checkpoint: %w", err)
	}
	c.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		c.close()
		return nil, fmt.Errorf("locking %s: %w: if another ingest uses this checkpoint, "+
			"give each its own", lock.Name(), err)
	}
	if err := c.load(); err != nil {
		c.close()
		return nil, fmt.Errorf("reading the checkpoint %s: %w", path, err)
	}
	// To find out now that it cannot be written is better than after the first restart.
	if err := c.save(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *checkpoint) load() error {
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var stored checkpointFile
	if err := json.Unmarshal(text, &stored); err != nil {
		return fmt.Errorf("%w; move it away to read all files from their begin again", err)
	}
	if stored.Version != checkpointVersion {
		return fmt.Errorf("it has version %d, this program reads version %d; use the program "+
			"that wrote it, or move it away to read all files from their begin again",
			stored.Version, checkpointVersion)
	}
	for i, e := range stored.Files {
		if e == nil || e.Offset <= 0 || e.Head == "" || e.Tail == "" {
			return fmt.Errorf("entry %d is not complete; move the file away to read all files "+
				"from their begin again", i)
		}
	}
	c.entries = stored.Files
	return nil
}

// save writes the checkpoint through to the disk.
func (c *checkpoint) save() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the checkpoint %s: %w; free some space and let this "+
				"process write to its directory", c.path, err)
		}
	}()
	text, err := json.MarshalIndent(checkpointFile{checkpointVersion, c.entries}, "", " ")
	if err != nil {
		return err
	}
	temporary := c.path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, c.path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(c.path)); err != nil {
		return err
	}
	c.dirty = false
	return nil
}

// syncDir makes a renaming durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// own reports whether path belongs to the checkpoint, so that a checkpoint in a directory
// of logs is not taken for a log.
func (c *checkpoint) own(path string) bool {
	return path == c.path || path == c.path+".tmp" || path == c.path+".lock"
}

// completed gives the entry of a compressed file that was read to its end and has not
// changed since.
func (c *checkpoint) completed(f candidate) *entry {
	i := slices.IndexFunc(c.entries, func(e *entry) bool {
		return e.Complete && e.owner == nil && e.fileKey == f.key &&
			e.Size == f.info.Size() && e.ModTime.Equal(f.info.ModTime())
	})
	if i < 0 {
		return nil
	}
	return c.entries[i]
}

func (c *checkpoint) close() { _ = c.lock.Close() }

// put notes how far a stream was published.
func (c *checkpoint) put(st *stream) {
	e := st.entry
	e.Offset, e.Head, e.Tail = st.offset, digest(st.head), digest(st.tail)
	if !slices.Contains(c.entries, e) {
		c.entries = append(c.entries, e)
	}
	c.dirty = true
}

// complete notes that a compressed file was read to its end.
func (c *checkpoint) complete(st *stream) {
	st.entry.Complete, st.entry.Size, st.entry.ModTime = true, st.size, st.modTime
	c.dirty = true
}

// expire removes the contents that no file has held for long.
func (c *checkpoint) expire(now time.Time) {
	n := len(c.entries)
	c.entries = slices.DeleteFunc(c.entries, func(e *entry) bool {
		return e.owner == nil && !e.Missing.IsZero() && now.Sub(e.Missing) > forget
	})
	c.dirty = c.dirty || len(c.entries) != n
	for _, e := range c.entries {
		if e.owner == nil && e.Missing.IsZero() {
			e.Missing, c.dirty = now, true
		}
	}
}
