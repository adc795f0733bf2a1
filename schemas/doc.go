// Package schemas is the contract between the services: the columns of an enriched
// event, topics and headers, the identity of an event, alerts. It does no I/O.
//
// A new column is a field of Event and a row of the table in columns.go.
package schemas
