// Package quota bounds what one tenant may have and do, so that no tenant takes the others' share of memory, of Postgres
// and of the network.
//
// In come the limits of all tenants (Config) and a tenant's own, which PUT /v1/tenants/{tenant} wrote. Out come verdicts:
// an *api.LimitError names the limit.
//
// Things that are rows are counted in the transaction that makes one more, under the lock of their tenant's row (Lock), so
// that two processes never exceed a limit together. What is open in a process, such as tails, is counted there
// (Enter). Events per second are held by each process to what the other processes leave of the limit: they tell each
// other once a second through Postgres what they took. So a tenant may take a limit's worth more for a second or two
// when its load moves to another process.
//
// If Postgres is away, nothing can be made that is counted there, and rates go on by the last counts.
//
// Run keeps the limits and rates of other processes fresh until its context ends. Without Run, only the limits loaded
// with Refresh are known.
package quota
