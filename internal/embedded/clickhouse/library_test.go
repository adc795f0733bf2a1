//go:build linux || darwin

package clickhouse

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/auditmill/auditmill/internal/embedded/dirlock"
)

const fakeLibrary = "not really a library"

// fakeRelease returns a small tarball in the form of the published one.
func fakeRelease(t *testing.T, entry string) (release, []byte) {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for name, content := range map[string]string{"package/package.json": "{}", entry: fakeLibrary} {
		err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(out.Bytes())
	return release{
		pkg:       "@chdb/lib-test",
		integrity: "sha512-" + base64.StdEncoding.EncodeToString(sum[:]),
		tarball:   int64(out.Len()),
		library:   int64(len(fakeLibrary)),
	}, out.Bytes()
}

// fakeNPM writes a program that stands for the npm client.
func fakeNPM(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "npm")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFetch(t *testing.T) {
	t.Parallel()
	rel, tarball := fakeRelease(t, libraryEntry)
	source := filepath.Join(t.TempDir(), "source.tgz")
	if err := os.WriteFile(source, tarball, 0o600); err != nil {
		t.Fatal(err)
	}
	strange, strangeTarball := fakeRelease(t, "package/other.so")
	// The program looks for its destination as npm does, and expects no input.
	deliver := `for arg in "$@"; do case $arg in --pack-destination=*) dir=${arg#*=};; esac; done
if read -r line; then echo "there is input" >&2; exit 1; fi
[ "$2" = "@chdb/lib-test@` + Version + `" ] || { echo "asked for $2" >&2; exit 1; }
cp ` + source + ` "$dir/` + rel.file() + `"`

	for _, tc := range []struct {
		name   string
		rel    release
		npm    string
		byHand []byte
		want   []string
	}{
		{name: "through npm", rel: rel, npm: deliver},
		{name: "by hand", rel: rel, npm: "exit 1", byHand: tarball},
		{
			name: "npm fails", rel: rel, npm: "echo npm error 404 not found >&2; exit 1",
			want: []string{"npm error 404 not found", "embedded.clickhouse.library", rel.file(), "server of your own"},
		},
		{
			name: "npm is missing", rel: rel, want: []string{"npm, which comes with Node.js, is not installed", "install npm"},
		},
		{
			name: "another tarball", npm: deliver, want: []string{"checksum", "pinned sha512-AAAA"},
			rel: release{pkg: rel.pkg, integrity: "sha512-AAAA", tarball: rel.tarball, library: rel.library},
		},
		{
			name: "damaged by hand", rel: rel, npm: deliver, byHand: tarball[:len(tarball)-1],
			want: []string{"checksum", "remove it"},
		},
		{
			name: "no library in it", rel: strange, byHand: strangeTarball, want: []string{"has no " + libraryEntry},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := LibraryConfig{NPM: filepath.Join(dir, "missing", "npm")}
			if tc.npm != "" {
				cfg.NPM = fakeNPM(t, tc.npm)
			}
			if tc.byHand != nil {
				if err := os.WriteFile(filepath.Join(dir, tc.rel.file()), tc.byHand, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var last, total int64
			cfg.Progress = func(d, t int64) { last, total = d, t }
			target := filepath.Join(dir, "libchdb.so")
			err := fetch(testContext(t), tc.rel, dir, target, cfg)
			if len(tc.want) == 0 {
				content, readErr := os.ReadFile(target)
				if err != nil || readErr != nil || string(content) != fakeLibrary {
					t.Fatalf("got %q, %v, %v", content, err, readErr)
				}
				if last != total || total != tc.rel.tarball+tc.rel.library {
					t.Errorf("progress ended at %d of %d", last, total)
				}
			} else {
				if _, statErr := os.Stat(target); err == nil || statErr == nil {
					t.Fatalf("got error %v, and the library: %v", err, statErr)
				}
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
			for _, pattern := range []string{"npm-*", "*.tmp-*"} {
				left, err := filepath.Glob(filepath.Join(dir, pattern))
				if err != nil || len(left) > 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			}
		})
	}
}

func TestLibraryPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "libchdb.so")
	if err := os.WriteFile(path, []byte(fakeLibrary), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Library(testContext(t), LibraryConfig{Path: path}); err != nil || got != path {
		t.Errorf("got %q, %v", got, err)
	}
	for _, wrong := range []string{dir, path + ".missing"} {
		_, err := Library(testContext(t), LibraryConfig{Path: wrong})
		if err == nil || !strings.Contains(err.Error(), "embedded.clickhouse.library") {
			t.Errorf("%s: got %v", wrong, err)
		}
	}
}

// TestWrongLibrary starts a server on something that is not the library.
func TestWrongLibrary(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Dir = t.TempDir()
	cfg.Library = filepath.Join(cfg.Dir, "libchdb.so")
	if err := os.WriteFile(cfg.Library, []byte(fakeLibrary), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(testContext(t), cfg)
	if err == nil || !strings.Contains(err.Error(), "loading the ClickHouse library") {
		t.Errorf("got %v", err)
	}
	// The failure left nothing locked.
	lock, err := dirlock.Acquire(filepath.Join(cfg.Dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	steps := func(report func(done, total int64)) {
		var group sync.WaitGroup
		for done := int64(0); done <= 200<<20; done += 10 << 20 {
			report(done, 200<<20)
		}
		group.Go(func() { report(200<<20, 200<<20) })
		group.Wait()
	}
	var lines, bar bytes.Buffer
	steps(newProgress(&lines, false))
	want := `fetching the ClickHouse engine: 0 % of 200 MB
fetching the ClickHouse engine: 25 % of 200 MB
fetching the ClickHouse engine: 50 % of 200 MB
fetching the ClickHouse engine: 75 % of 200 MB
fetching the ClickHouse engine: 100 % of 200 MB
`
	if lines.String() != want {
		t.Errorf("lines:\n%s", lines.String())
	}
	steps(newProgress(&bar, true))
	if !strings.HasSuffix(bar.String(), "["+strings.Repeat("=", barWidth)+"] 100 %\n") {
		t.Errorf("bar: %q", bar.String())
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	cfg := Config{HTTPPort: 70000, TCPPort: -1, MaxMemory: 1}
	err := cfg.Validate()
	for _, key := range []string{"dir", "library", "http_port", "tcp_port", "max_memory", "mark_cache", "start_timeout"} {
		if err == nil || !strings.Contains(err.Error(), "embedded.clickhouse."+key) {
			t.Errorf("error lacks %s: %v", key, err)
		}
	}
	if err := (ProxyConfig{}).Validate(); err == nil {
		t.Error("an empty proxy configuration is accepted")
	}
}
