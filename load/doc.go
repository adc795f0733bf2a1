// Package load moves audit.enriched.v1 and audit.alerts.v1 into ClickHouse.
//
// Comes in: Arrow batches of events and JSON alerts. Goes out: rows of the tables events and
// alerts, and what cannot be stored to audit.dead.v1. Guaranteed: every event is in events
// exactly once and the rollups agree with it, whatever is killed or away meanwhile.
package load
