package main

import (
	"os"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
)

// What the environment says about the servers of the end-to-end tests is not for the
// commands, which refuse variables that they do not know.
func TestMain(m *testing.M) {
	clickhouse.RunChildIfAsked()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AUDITMILL_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}
