//go:build linux || darwin

package clickhouse

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// libraryEntry is the library's place in the tarball.
const libraryEntry = "package/libchdb.so"

// fetch brings the library to target: from a tarball that somebody put into dir, else from npm.
func fetch(ctx context.Context, rel release, dir, target string, cfg LibraryConfig) error {
	// The bar runs over the download and then over the unpacking.
	progress := func(done int64) {
		if cfg.Progress != nil {
			cfg.Progress(min(done, rel.tarball+rel.library), rel.tarball+rel.library)
		}
	}
	byHand := filepath.Join(dir, rel.file())
	if _, err := os.Stat(byHand); err == nil {
		if err := unpack(ctx, rel, byHand, target, progress); err != nil {
			return fmt.Errorf("using %s: %w; remove it to have it downloaded", byHand, err)
		}
		return nil
	}
	temp, err := os.MkdirTemp(dir, "npm-")
	if err != nil {
		return fmt.Errorf("creating a directory for the download: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := npmPack(ctx, rel, temp, cfg.NPM, progress); err != nil {
		return unavailable(rel, dir, err)
	}
	return unpack(ctx, rel, filepath.Join(temp, rel.file()), target, progress)
}

// npmPack has the npm client download the tarball, so that the user's registry, proxy and
// credentials hold.
func npmPack(ctx context.Context, rel release, dir, npm string, progress func(int64)) error {
	if npm == "" {
		npm = "npm"
	}
	cmd := exec.CommandContext(ctx, npm, "pack", rel.pkg+"@"+Version, "--ignore-scripts",
		"--loglevel=error", "--pack-destination="+dir, "--cache="+filepath.Join(dir, "cache"))
	cmd.Dir = dir
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	finished := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-finished:
				return
			case <-ticker.C:
				progress(min(largestFile(dir), rel.tarball))
			}
		}
	}()
	err := cmd.Wait()
	close(finished)
	<-stopped
	if err != nil {
		return fmt.Errorf("npm pack: %w: %s", err, lastLines(output.String(), 6))
	}
	return nil
}

// largestFile stands for the bytes downloaded so far: npm writes no progress to a pipe.
func largestFile(dir string) int64 {
	var size int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, _ error) error {
		if entry == nil || !entry.Type().IsRegular() {
			// Files come and go while npm works; one that went is no reason to stop.
			return nil
		}
		if info, infoErr := entry.Info(); infoErr == nil {
			size = max(size, info.Size())
		}
		return nil
	})
	return size
}

func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

// unpack checks the tarball and takes the library out of it. The target appears complete or
// not at all.
func unpack(ctx context.Context, rel release, tarball, target string, progress func(int64)) error {
	if err := verify(ctx, tarball, rel.integrity); err != nil {
		return err
	}
	progress(rel.tarball)
	in, err := os.Open(tarball)
	if err != nil {
		return fmt.Errorf("opening the tarball: %w", err)
	}
	defer in.Close()
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("unpacking the tarball: %w", err)
	}
	archive := tar.NewReader(unzipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("unpacking the tarball: it has no %s", libraryEntry)
		}
		if err != nil {
			return fmt.Errorf("unpacking the tarball: %w", err)
		}
		if header.Name != libraryEntry {
			continue
		}
		if header.Size != rel.library {
			return fmt.Errorf("unpacking the tarball: %s has %d bytes, not %d", libraryEntry,
				header.Size, rel.library)
		}
		return install(ctx, archive, target, func(n int64) { progress(rel.tarball + n) })
	}
}

// install writes content to a temporary file beside target and renames it.
func install(ctx context.Context, content io.Reader, target string, progress func(int64)) error {
	out, err := os.CreateTemp(filepath.Dir(target), filepath.Base(target)+".tmp-")
	if err != nil {
		return fmt.Errorf("creating the library file: %w", err)
	}
	// After the renaming there is nothing left to remove.
	defer func() { _ = os.Remove(out.Name()) }()
	_, err = io.Copy(out, &meter{in: content, ended: ctx.Err, progress: progress})
	err = errors.Join(err, out.Chmod(0o555), out.Sync(), out.Close())
	if err != nil {
		return fmt.Errorf("writing the library file: %w", err)
	}
	if err := os.Rename(out.Name(), target); err != nil {
		return fmt.Errorf("naming the library file: %w", err)
	}
	return nil
}

// verify compares a file with a checksum in the registry's form.
func verify(ctx context.Context, path, integrity string) error {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening the tarball: %w", err)
	}
	defer in.Close()
	sum := sha512.New()
	if _, err := io.Copy(sum, &meter{in: in, ended: ctx.Err, progress: func(int64) {}}); err != nil {
		return fmt.Errorf("reading the tarball: %w", err)
	}
	got := "sha512-" + base64.StdEncoding.EncodeToString(sum.Sum(nil))
	if got != integrity {
		return fmt.Errorf("checking the tarball: its checksum is %s instead of the pinned %s; "+
			"it is damaged or not the published one", got, integrity)
	}
	return nil
}

// meter counts what is read and ends the reading when ended says so.
type meter struct {
	in       io.Reader
	ended    func() error
	progress func(int64)
	done     int64
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	if err := m.ended(); err != nil {
		return 0, err
	}
	n, err := m.in.Read(p)
	m.done += int64(n)
	m.progress(m.done)
	return n, err
}
