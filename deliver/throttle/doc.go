// Package throttle decides whether a delivery may be sent now. It knows the places of one worker, the
// breakers of endpoints and hosts, outages of the worker's own network, and rate limits.
//
// In come requests to enter (Gate.Line, Gate.Enter), one for each attempt. Out goes a Ticket, which is
// released with the attempt's result, or a Refusal: why the delivery must wait, and for how long. Each
// refused delivery gets a time of its own, so that deliveries refused together do not return together.
//
// It promises that no endpoint, host or subscription holds more of the worker than its share, that a
// failing endpoint gets one probe at a time, and that no subscription exceeds its rate limit or its
// max_in_flight over all workers. Workers divides max_in_flight: each worker counts the live workers every
// few seconds and has a share by its rank among them, so that no attempt asks a server.
//
// A worker that starts and requests that are in flight when shares shrink are the two limits of that
// promise: see docs/decisions/max-in-flight.md.
//
// While Postgres is away, rate-limited subscriptions are refused and all others go on. All other state
// is in memory, per worker, and is rebuilt from results after a restart.
//
// It has no goroutine of its own but those that Gate.Go starts. To stop, the contexts given to Enter end
// and Stop refuses errands that have not begun.
package throttle
