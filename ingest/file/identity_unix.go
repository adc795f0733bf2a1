//go:build unix

package file

import (
	"io/fs"
	"syscall"
)

// keyOf is the number that the kernel knows a file by.
func keyOf(info fs.FileInfo, _ string) fileKey {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fileKey{Device: uint64(st.Dev), Inode: uint64(st.Ino)} //nolint:unconvert // not uint64 everywhere
	}
	return fileKey{}
}
