package clickhouse

import "syscall"

// childAttributes puts the child into a process group of its own, out of reach of Ctrl-C. The
// parent's death reaches it through the pipe alone.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// ownExecutable is used when the file this program was started from is gone.
const ownExecutable = ""
