//go:build linux || darwin

package clickhouse

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// childVariable carries the child's orders. Its name lies outside the program's own prefix,
// which configuration refuses when it does not know a variable.
const childVariable = "_AUDITMILL_CLICKHOUSE_CHILD"

// lifelineFD is the read end of a pipe whose write end only the parent holds.
const lifelineFD = 3

// childOrders is what the parent tells the child.
type childOrders struct {
	Library string
	Dir     string
	Args    []string
}

// RunChildIfAsked must be the first statement of main and of the TestMain of every test binary
// that starts a server. In an ordinary start it returns at once; in the child that Start
// created it runs the engine and ends the process.
func RunChildIfAsked() {
	text, asked := os.LookupEnv(childVariable)
	if !asked {
		return
	}
	if err := runChild(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runChild(text string) error {
	var orders childOrders
	if err := json.Unmarshal([]byte(text), &orders); err != nil {
		return fmt.Errorf("decoding %s: %w", childVariable, err)
	}
	// A signal meant for the whole group must not end the database before the services that
	// are still writing to it; only the parent stops the child.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go dieWithParent()
	// The engine reads ./config.xml of its working directory.
	if err := os.Chdir(orders.Dir); err != nil {
		return fmt.Errorf("entering the server's directory: %w", err)
	}
	return runEngine(orders.Library, orders.Args)
}

// dieWithParent ends the process when the parent's end of the pipe closes, however the parent
// ended. Where the kernel can signal a parent's death as well, Start asks it to.
func dieWithParent() {
	lifeline := os.NewFile(lifelineFD, "lifeline")
	_, _ = io.Copy(io.Discard, lifeline)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}
