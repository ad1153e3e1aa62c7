// Package postgres connects to Postgres, keeps its schema, and says what its errors mean.
//
// In come a connection URL (FANFARE_POSTGRES_URL, or that of the embedded server) and the migrations of this package: one
// history for one database, whoever owns the tables. Code runs before and after each migration, which only adds.
//
// Out go a pool of connections (Open), transactions that are tried again where that is right (Retry), statements that
// hot paths prepare (Statement) and their arrays (Column), the partitions of each day
// (Partitions), the end of old rows (Retention: whole days are dropped, and none that holds pending work), and work
// that one process at a time does for all (RunChore).
//
// Open takes libpq's forms of a connection string and refuses a pooler in transaction mode. A session that answers that it cannot
// write, or is ended by the server, leaves the pool, and with it all that were opened before.
//
// It promises that nothing hangs: the server ends statements, waits for locks and idle transactions after a while, and a
// server that does not answer at all is given up a little later. Migrate and EnsurePartitions may be called by any
// number of processes at once. Ids are UUIDv7, so a day's partition is a range of ids; a row for which there is none goes
// to <table>_rest and is moved when its partition is made.
//
// When Postgres is away, going down, full or read-only, IsUnavailable is true of the error, and Retry gives up after some
// two seconds with ErrUnavailable: to wait longer is the caller's business. A commit whose answer was lost is also
// ErrUnknown: it may have happened, and is not repeated.
//
// Nothing runs by itself but functions called Run, which end with their context. Close the pool to stop.
package postgres
