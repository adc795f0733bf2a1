// Package dirlock lets one process at a time own a directory.
//
// In goes the path of a lock file, out comes a held lock or the process that holds it. The
// kernel releases the lock when its holder ends, however it ends.
package dirlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld says that another process, or another part of this one, holds the lock.
var ErrHeld = errors.New("held by another process")

// pollInterval is how often Wait looks again; flock itself cannot be given up by a context.
const pollInterval = 100 * time.Millisecond

// Lock is a held lock.
type Lock struct {
	file *os.File
}

// Acquire takes the lock or returns an error that wraps ErrHeld and names the holder. The
// directory is created when it is missing.
func Acquire(path string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("creating the directory of a lock: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a lock file: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		_ = file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if pid := strings.TrimSpace(string(holder)); pid != "" {
			return nil, fmt.Errorf("%s is %w (pid %s)", filepath.Dir(path), ErrHeld, pid)
		}
		return nil, fmt.Errorf("%s is %w", filepath.Dir(path), ErrHeld)
	}
	// The content only serves the message above: a lock without it is as good.
	if err := file.Truncate(0); err == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &Lock{file: file}, nil
}

// Wait takes the lock as soon as its holder lets go, or gives up when ctx ends.
func Wait(ctx context.Context, path string) (*Lock, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		lock, err := Acquire(path)
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-ticker.C:
		}
	}
}

// Release gives the lock up. The file stays: removing it would let two processes lock two
// files of one name.
func (l *Lock) Release() error {
	return l.file.Close()
}
