//go:build race

package rules_test

// The race detector makes sync.Pool, which regexp uses, forget at random.
const raceDetector = true
