//go:build linux || darwin

package clickhouse

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// runEngine loads the library and hands the process to ClickHouse until the last statement
// of the given arguments has ended. It can be called once per process.
func runEngine(library string, args []string) error {
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return fmt.Errorf("loading the ClickHouse library: %w", err)
	}
	var (
		setSignalHandlers func(enabled int32)
		queryCmdline      func(argc int32, argv unsafe.Pointer) unsafe.Pointer
		resultError       func(result unsafe.Pointer) string
	)
	for name, target := range map[string]any{
		"chdb_set_signal_handlers_enabled": &setSignalHandlers,
		"chdb_query_cmdline":               &queryCmdline,
		"chdb_result_error":                &resultError,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return fmt.Errorf("%s is not a libchdb of version %s or later: %w", library, Version, err)
		}
		purego.RegisterFunc(target, symbol)
	}
	// The engine's own handlers run without SA_ONSTACK and would turn a recoverable Go fault
	// into a hang.
	setSignalHandlers(0)

	var pinner runtime.Pinner
	defer pinner.Unpin()
	argv := make([]*byte, 0, len(args)+1)
	for _, arg := range args {
		text := append([]byte(arg), 0)
		pinner.Pin(&text[0])
		argv = append(argv, &text[0])
	}
	argv = append(argv, nil)
	pinner.Pin(&argv[0])

	result := queryCmdline(int32(len(args)), unsafe.Pointer(&argv[0]))
	if result == nil {
		return errors.New("the ClickHouse engine ended without a result")
	}
	if text := resultError(result); text != "" {
		return errors.New(text)
	}
	return nil
}
