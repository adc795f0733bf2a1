// Package clickhouse runs the ClickHouse engine next to the program, without an installation.
//
// In goes a data directory and, when the cache has none yet, the engine's library, which is
// obtained through the npm client. Out comes a supervised child process that serves
// ClickHouse's own HTTP (and, on request, native) protocol on the loopback interface.
//
// Guaranteed: the child never outlives its parent, it is started again on the same ports after
// any death, a data directory is used by one program at a time, and what an insert was
// answered for survives kill -9 of the child and of the parent. A crash of the operating
// system may lose the last seconds, because ClickHouse does not sync every insert.
//
// The child is this program's own executable started again, so main and every TestMain that
// uses the package must call RunChildIfAsked first.
package clickhouse
