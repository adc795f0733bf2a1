// Package directory reads who there is and which networks there are: lists of people, groups and IP ranges as CSV, JSON or
// plain lines, and SCIM 2.0 services. It works out what a list, or a dump of a cluster, changes of what is known.
//
// In come foreign texts, out come Lists, or Faults that name each fault of a text with its line, its field and what to do
// about it: a list with a fault is not used at all, since what it lacks would be taken to be gone. Plans say what a list
// would add, change and remove, before anything is done; a plan for what is known already is empty.
package directory
