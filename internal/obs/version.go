package obs

import (
	"runtime/debug"
)

// version is set for releases by
//
//	go build -ldflags "-X github.com/auditmill/auditmill/internal/obs.version=v1.2.3"
//
// The linker can only write to a variable; nothing in the program assigns it.
var version string

// Build says what this binary was built from.
type Build struct {
	// Version is the release, or the module version that the Go tool recorded,
	// or "devel".
	Version string
	// Commit is the revision of the source tree, or "unknown".
	Commit string
	// Time is the commit time in RFC 3339, or empty.
	Time string
	// Modified is true when the source tree had uncommitted changes.
	Modified bool
	// Go is the version of the Go toolchain.
	Go string
}

// Version reads the build information of the running binary.
func Version() Build {
	info, _ := debug.ReadBuildInfo()
	return buildFrom(version, info)
}

func buildFrom(release string, info *debug.BuildInfo) Build {
	b := Build{Version: release, Commit: "unknown"}
	if info != nil {
		b.Go = info.GoVersion
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				b.Time = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

// String gives one line for "auditmill version" and for the first log message.
func (b Build) String() string {
	s := b.Version + " (" + b.Commit
	if b.Modified {
		s += ", modified"
	}
	if b.Time != "" {
		s += ", " + b.Time
	}
	return s + ") " + b.Go
}
