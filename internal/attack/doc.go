// Package attack holds the attack suite: what one tenant, or a client without a key, can try against
// the others, and the promises that hold meanwhile. It consists of tests only.
//
// In comes the binary, built once, which runs as `fanfare all` with its own NATS and Postgres. A victim
// tenant publishes at a steady rate to a receiver on loopback, first in peace, then under each attack.
//
// Out goes a table with one line an attack: p50 and p99 of the victim in both windows, their ratio,
// events of the victim that were lost or refused, the peak memory of the fanfare process, the verdict.
//
// It promises that an attack passes only if the victim's p99 stays within its bound, no event of the
// victim is lost or refused, the memory stays below 600 MB, and the attack's own condition holds
// (a limit refuses, a scope is not bypassed, a stream ends). A window whose latency fails is repeated
// with a fresh quiet window, because other load on the machine looks like an attack; the quickest window
// of each kind counts.
//
// The short form runs in `make test`: small attacks against one process, bounds of latency that only a
// stall exceeds. `make attack` runs the long form: each attack at full size, against a process of its own.
//
// It stops with the tests; the process is killed and its data directory removed.
package attack
