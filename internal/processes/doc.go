// Package processes keeps a row in Postgres for each process of an installation.
//
// In come a process's role, host and version. Out goes the table processes: who runs, since when, and when it last wrote.
//
// Its second use is readiness: a row that was written lately shows that Postgres takes writes from this process, which a ping
// does not. While Postgres is away the row ages, and Check returns why. It also reports the last write that Postgres refused for
// lack of disk space, since the small row fits into pages that Postgres has.
//
// Its third use is sharing: each beat of a worker counts the live workers and its own rank, by which they divide
// max_in_flight. The row outlives the worker's last attempt, so a worker that drains still has its share.
//
// Its fourth use is taking over: Killed finds the workers that were killed, whose leases need not be waited for.
//
// Run writes the row until its context ends, and then removes it. Rows of processes that were killed are removed by the others
// after an hour.
package processes
