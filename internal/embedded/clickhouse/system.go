//go:build linux || darwin

package clickhouse

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/cpu"
)

// checkSystem refuses a machine on which the library would end the process instead of
// returning an error.
func checkSystem() error {
	if runtime.GOARCH == "amd64" {
		for _, feature := range []struct {
			name string
			have bool
		}{
			{"AVX2", cpu.X86.HasAVX2},
			{"BMI2", cpu.X86.HasBMI2},
			{"FMA", cpu.X86.HasFMA},
		} {
			if !feature.have {
				return fmt.Errorf("the ClickHouse library needs a processor with %s (x86-64-v3); "+
					"use a ClickHouse server of your own on another machine", feature.name)
			}
		}
	}
	if runtime.GOOS == "linux" {
		return checkGlibc()
	}
	return nil
}

func checkGlibc() error {
	libc, err := purego.Dlopen("libc.so.6", purego.RTLD_NOW)
	if err == nil {
		_, err = purego.Dlsym(libc, "gnu_get_libc_version")
	}
	if err != nil {
		return errors.New("the ClickHouse library needs the GNU C library (glibc), which this system " +
			"does not have; use an image that is not based on musl, or a ClickHouse server of your own")
	}
	return nil
}
