// Package replay sends the past again: requests for a replay come in over HTTP (Routes) or with a new subscription
// (Backfill), and deferrals of a new generation go out to deliver's ledger, at the rate that was asked for.
//
// A Replayer leases replays, reads the ledger of events in steps, matches the events against the subscription as it is
// now (fanout.Sieve), and writes the deliveries and its own place in one transaction. It counts first and sends
// second; a dry run only counts.
//
// It promises that each replay makes a delivery at most once, also when a process is killed, and that no request of
// a paused or cancelled replay begins after the answer. A backfill starts only once the ledger knows the fate of every
// event accepted before the subscription's birth (fanout.Settling), so that nothing is sent both live and again.
//
// While Postgres or the broker is away, replays wait. To stop, Run's context ends: the step in hand is finished or rolled
// back, and the leases are released.
package replay
