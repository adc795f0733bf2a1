// Package offline runs detection rules without a server: over recorded events, over history in ClickHouse or
// Kafka, and over the cases that rules carry.
//
// Comes in: rule files and events. Goes out: matches, alerts and reports. Guaranteed: rows are made by the code of
// the enrich service, rules are evaluated by the engine of the alert service and correlations by its
// correlator, so that what is said here is what the services would do.
package offline
