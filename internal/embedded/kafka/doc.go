// Package kafka runs a Kafka broker inside the program, for one machine.
//
// In goes a directory, out comes a broker of one node that speaks the Kafka protocol on the
// loopback interface: topics, consumer groups, idempotent producers and transactions, retention
// and compaction.
//
// Guaranteed: what was acknowledged, committed or ended survives the death of the process at any
// moment (a crash of the operating system too, with Config.Sync), a transaction is visible
// completely or not at all, a retried batch is stored once, and a directory is used by one
// process at a time.
package kafka
