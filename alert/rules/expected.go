package rules

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed testdata/sample.expected.tsv
var expected string

//go:embed testdata/sample.context.tsv
var expectedContext string

// Expected is one alert that the shipped recording must give.
type Expected struct {
	Rule string // id of the rule
	Line int    // line of the recording, from 1
}

// ExpectedAlerts returns the alerts on single events that the pack must raise on the shipped recording, and no others, where
// the people of the recording are known. The lists were made without the engine and without what works out who and why, by
// predicates written for each rule.
func ExpectedAlerts() ([]Expected, error) {
	var all []Expected
	for name, list := range map[string]string{"expected alerts": expected, "expected alerts of who and why": expectedContext} {
		some, err := parseExpected(list)
		if err != nil {
			return nil, fmt.Errorf("%s, %w", name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func parseExpected(list string) ([]Expected, error) {
	var out []Expected
	for i, line := range strings.Split(strings.TrimSpace(list), "\n") {
		if i == 0 {
			continue // the names of the fields
		}
		fields := strings.Split(line, "\t")
		if len(fields) < 3 {
			return nil, fmt.Errorf("line %d: %d fields", i+1, len(fields))
		}
		n, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		out = append(out, Expected{Rule: fields[0], Line: n})
	}
	return out, nil
}
