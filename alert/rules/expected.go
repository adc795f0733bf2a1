package rules

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed testdata/sample.expected.tsv
var expected string

// Expected is one alert that the shipped recording must give.
type Expected struct {
	Rule string // id of the rule
	Line int    // line of the recording, from 1
}

// ExpectedAlerts returns the alerts that the pack must raise on the shipped recording, and no others. The
// list was made without the engine, by predicates written for each rule.
func ExpectedAlerts() ([]Expected, error) {
	var out []Expected
	for i, line := range strings.Split(strings.TrimSpace(expected), "\n") {
		if i == 0 {
			continue // the names of the fields
		}
		fields := strings.Split(line, "\t")
		if len(fields) < 3 {
			return nil, fmt.Errorf("expected alerts, line %d: %d fields", i+1, len(fields))
		}
		n, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("expected alerts, line %d: %w", i+1, err)
		}
		out = append(out, Expected{Rule: fields[0], Line: n})
	}
	return out, nil
}
