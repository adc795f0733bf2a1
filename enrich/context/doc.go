// Package context holds what is known of the clusters that events come from: the RBAC objects, service accounts and
// namespaces of any number of clusters, as they were at any moment of a configurable past.
//
// In come Changes: made of audit events by Store.FromEvent, of kubectl dumps by ReadDump, or of records of
// audit.context.v1 by ParseRecord. Out come States: immutable, complete snapshots of one cluster at one moment, that
// share all they have in common. Looking one up takes no lock, and a State that was found stays as it is.
//
// What is not known is never guessed: an object that changed in a way that was not recorded is marked Stale, a cluster
// of which something was missed is marked Doubtful, and before the first dump of a kind State.Complete says no.
package context
