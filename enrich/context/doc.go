// Package context holds what is known of the clusters that events come from, and of the organization whose they are, as it
// was at any moment of a configurable past: roles and bindings, service accounts, namespaces, pods and their owners,
// nodes, credentials that were issued; persons, groups and ranges of addresses.
//
// In come Changes: made of audit events by Store.FromEvent, of kubectl dumps by ReadDump, of records of audit.context.v1
// by ParseRecord and ParseTombstone. Out come Items, by Cluster.Find and the look-ups made of it, and States: immutable,
// complete snapshots of the roles and bindings of one cluster at one moment, that share all they have in common. Looking
// up takes no lock, and what was found stays as it is.
//
// What an object was over time is worked out of everything that was said of it, and of nothing else (see resolve): it
// does not matter in which order things are said, how often, or by how many. What a topic must hold after a late change,
// so that compaction forgets nothing that counts, Store.Later tells.
//
// What is not known is never guessed: an object that changed in a way that was not recorded is marked Stale, a cluster
// of which something was missed is Doubtful, before the first dump of a kind Complete says no, and what has to make room
// is not known any more. Of something that was gone before the history began, older news do not bring it back.
package context
