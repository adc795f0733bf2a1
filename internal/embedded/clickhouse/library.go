//go:build linux || darwin

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/auditmill/auditmill/internal/embedded/dirlock"
)

// Version is the version of the engine's library that this program is built for.
const Version = "26.7.3-stable.1"

// release pins one published library: what is downloaded is used only when it is this.
type release struct {
	// pkg is the npm package.
	pkg string
	// integrity is the tarball's SHA-512 as the registry writes it.
	integrity string
	// tarball and library are sizes in bytes.
	tarball, library int64
}

// releaseFor returns the pinned library for a system, or false where none is published.
func releaseFor(goos, goarch string) (release, bool) {
	switch goos + "/" + goarch {
	case "linux/amd64":
		return release{
			pkg: "@chdb/lib-linux-x64-gnu",
			integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/" +
				"gWUNcuFjOMjWoorQICCqBVj5wpw==",
			tarball: 177_817_999,
			library: 566_330_096,
		}, true
	default:
		return release{}, false
	}
}

// file is the name that the npm client gives to the tarball.
func (r release) file() string {
	name := strings.NewReplacer("@", "", "/", "-").Replace(r.pkg)
	return name + "-" + Version + ".tgz"
}

// LibraryConfig says where the engine's library is or shall be.
type LibraryConfig struct {
	// Path names an existing libchdb.so. Nothing is downloaded when it is set.
	Path string
	// CacheDir holds downloaded libraries; "" means auditmill below the user's cache directory.
	CacheDir string
	// NPM is the npm client to use; "" means npm from the search path.
	NPM string
	// Progress is told about a download as it goes on, if it is set.
	Progress func(done, total int64)
}

// Library returns the path of the engine's library and obtains it first if need be. Any number
// of processes may ask at once: one of them downloads, the others wait for it.
func Library(ctx context.Context, cfg LibraryConfig) (string, error) {
	if err := checkSystem(); err != nil {
		return "", err
	}
	if cfg.Path != "" {
		return given(cfg.Path)
	}
	rel, ok := releaseFor(runtime.GOOS, runtime.GOARCH)
	if !ok {
		return "", fmt.Errorf("no ClickHouse library %s is known for %s/%s; %s", Version,
			runtime.GOOS, runtime.GOARCH, alternativesWithoutRelease)
	}
	dir, err := cacheDir(cfg.CacheDir)
	if err != nil {
		return "", err
	}
	target := filepath.Join(dir, "libchdb.so")
	if present(target, rel.library) {
		return target, nil
	}
	lock, err := dirlock.Wait(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return "", fmt.Errorf("waiting for another process that fetches the ClickHouse library: %w", err)
	}
	if !present(target, rel.library) {
		err = fetch(ctx, rel, dir, target, cfg)
	}
	return target, errors.Join(err, lock.Release())
}

func given(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("resolving embedded.clickhouse.library: %w", err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", fmt.Errorf("opening embedded.clickhouse.library: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("embedded.clickhouse.library: %s is not a file; name libchdb.so itself", abs)
	}
	return abs, nil
}

func cacheDir(dir string) (string, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding the user's cache directory: %w; "+
				"set HOME, or point embedded.clickhouse.library at a libchdb.so", err)
		}
		dir = filepath.Join(user, "auditmill")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "libchdb", Version))
	if err != nil {
		return "", fmt.Errorf("resolving the cache directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("creating the cache directory: %w", err)
	}
	return dir, nil
}

// present trusts a file of the right size: it got its name only after its checksum was right.
func present(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

const alternativesWithoutRelease = "point embedded.clickhouse.library at a libchdb.so of that " +
	"version, or use a ClickHouse server of your own"

// unavailable adds to the cause what the user can do instead.
func unavailable(rel release, dir string, cause error) error {
	hint := ""
	if errors.Is(cause, fs.ErrNotExist) || strings.Contains(cause.Error(), "executable file not found") {
		hint = " (npm, which comes with Node.js, is not installed)"
	}
	return fmt.Errorf(`obtaining the ClickHouse library through npm%s: %w
do one of these:
  * install npm, or give it access to its registry, and start again
  * download %s version %s by hand (npm pack %s@%s) and put it at
    %s
  * point the setting embedded.clickhouse.library at a libchdb.so
  * use a ClickHouse server of your own instead of the embedded one`,
		hint, cause, rel.pkg, Version, rel.pkg, Version, filepath.Join(dir, rel.file()))
}
