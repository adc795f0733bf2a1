// Package feed carries context over Kafka: changes become records of audit.context.v1 and audit.credentials.v1, and
// the records become changes in a context.Store again, in every process that needs to know.
//
// All versions of an object have one key, so they are in one partition and in order. What a reader makes of them does not
// depend on the order of partitions, nor on how often a record is read.
package feed
