// Package access says who calls: keys, the admin key of the environment, and tokens of an identity provider. It
// also keeps the tenants that they act for.
//
// In comes a credential, from the guard of the API (Authenticate). A key is ff_<id>_<secret>: the id finds the row, and a
// keyed hash of the whole key is compared in constant time; the key itself is shown once, in the answer to its
// creation, and stored nowhere. The end of the secret is a checksum, so that garbage costs no query. The peppers of the
// hashes are derived from the key ring of the deployment, so that a copy of the database tests no guess. A JWT is
// verified by the key set of Config.JWKSURL. Out comes the Caller.
//
// It promises that a revoked or expired key, and every key of an erased tenant, ends within 5 s in every
// process, also for requests that are under way (Watch): the state of a key is cached for 3 s, and refreshed in the
// background while the key is in use, so that a busy key never waits for Postgres. A key grants no scope and no time that
// it lacks. A key without a tenant is an admin's, or an operator's with scopes, which makes no keys. When a key was last used is written once a minute at most, and never while a request waits. One query at a
// time looks up keys, however many are asked for, and no address is refused for the wrong keys that come from it.
//
// When Postgres is away, keys that were judged within the last 3 s go on, and all others get 503, never 401: whoever
// cannot be judged is not let in, and is not told that his key is wrong. The admin key of the environment needs no
// Postgres. When the identity provider is away, its last key set holds for a day.
//
// Run refreshes, ends requests, writes times of use, and erases tenants until its context ends; times of use are written
// before it returns. Without Run, keys are judged as well, each use waiting for Postgres every 3 s.
package access
