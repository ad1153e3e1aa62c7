// Package deliver sends webhooks: it makes each delivery that fan-out asks for, again and again if it must,
// and keeps what became of it.
//
// In come tasks (Outbox, the stream TASKS): an event and the subscriptions that it goes to, many tasks in one
// message. A Worker makes the deliveries of a message at the same time, each when its subscription and the worker
// have a slot, and acknowledges the message when each has its outcome on disk. What takes longer than a second
// becomes a row of its own, so that a slow receiver holds back nobody's task.
//
// Fairness is by tenant. What a tenant hands over beyond its allowance goes to the stream BACKLOG instead, under a
// subject of its own, which several consumers share. A worker reads all of them; what it has in hand is shared
// between tenants, and an eighth of it is kept for TASKS. So a tenant's backlog is its own. Of BACKLOG's bytes a tenant
// may have as many as are free; then its further events wait in fan-out.
//
// Out go signed POSTs (webhook.Poster), and outcomes (the stream ATTEMPTS), which a ledger.Recorder writes into the ledger in
// Postgres: deliveries that ended, deferrals that wait, attempts. Deferrals that are due are leased and flown by
// workers like tasks. Package history reads the ledger; package ledger makes deliveries of the past again and erases contents.
//
//	         task                    hand-off, retry, busy, pause
//	          │                    ┌──────────────────────────────┐
//	          ▼                    ▼                              │
//	TASKS ─▶ flight ─▶ attempt ─▶ verdict ─▶ later ─▶ deferral ─▶ lease ─▶ flight ...
//	          │                    │                   │    ▲
//	          ▼                    ▼                   │    └ resume, retry by hand
//	      cancelled         delivered, dead            ▼
//	(disabled, deleted)                            cancelled (by hand, disabled, deleted)
//
// Before an attempt, each of these may put a delivery off, without one and without using one up: a full share of slots
// (busy), the breaker of its endpoint (breaker_open, or retry_after where the receiver said when), its rate limit
// (rate_limited), an outage of our own network (connect). Each gives it a time of its own, so that deliveries that wait together
// do not come back together:
//
//	              10 failures in a row                  5 s, then twice as long, up to 5 min
//	closed ───────────────────────────▶ open ◀──────────────────────────────────┐
//	  ▲  ▲     Retry-After                │ its time is over                      │ it fails
//	  │  └── all at once again            ▼                                       │
//	  │        ▲                       half open: one probe ─────────────────────┘
//	  │        │ as many successes        │ it succeeds: what waits is made due, in order
//	  │        └──────── one at once ◀────┘
//	  └ 429, 502, 503, 504, timeout: half as many at once; each success a little more
//
// Breakers and windows are each worker's own: with several there are as many probes. Rate limits are shared: Postgres
// hands out the times at which requests may be made (GCRA), a few at once to each worker. A subscription without a
// success for days is disabled, and its tenant is told by an operational event, as of dead deliveries and of endpoints
// that recover; nothing is told of an operational event's own delivery.
//
// A subscription's auth is in the header of its plan, or a token that is asked for within the attempt; its client
// certificate has connections of its own (package webhook). Failing tokens are no answer of the receiver.
//
// It promises that a delivery is made at least once, and exactly once where nothing crashes; that it ends once,
// as delivered, dead or cancelled, with a reason; and that all attempts carry the same id and bytes. A delivery's id is made of
// what it is, so whoever computes it again meets the same row. Steps order the records of one delivery: a late word of
// a worker that lost its lease is void. What may have been done before (a message that came again or was
// stored long after it was sent, a lease that lapsed) is checked against the ledger first, once the ledger has caught up with ATTEMPTS. No order is promised, but to
// subscriptions that ask for one: their deliveries of one key are made one after the other, in the order of their events (ledger.Turns).
//
// While Postgres is away, rate-limited subscriptions receive nothing; other deliveries go on and their outcomes wait in
// ATTEMPTS; a delivery that cannot be handed off keeps its task; nothing due is claimed. While NATS is away, attempts in
// flight end, their outcomes wait in memory, and leases are kept. If ATTEMPTS is full the same happens, and so no more
// tasks are taken. What cannot be read goes to quarantine. A receiver can do no harm beyond its own slots, and a tenant
// none beyond its share (see throttle).
//
// To stop, Run's context ends: nothing new is begun, waiting deliveries are handed back, attempts in flight may end within
// Config.DrainTimeout and are then broken off and handed back. A worker that is killed loses its messages after
// jetstream.AckWait, and its leases as soon as the others learn of it, or else after Config.Lease, to another worker.
package deliver
