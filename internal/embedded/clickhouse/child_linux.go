package clickhouse

import "syscall"

// childAttributes puts the child into a process group of its own, out of reach of Ctrl-C, and
// has the kernel kill it when the thread that started it ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// ownExecutable is used when the file this program was started from is gone.
const ownExecutable = "/proc/self/exe"
