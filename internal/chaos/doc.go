// Package chaos holds the chaos suite: it breaks a running installation in every way of the fault catalogue and proves
// that the promises of Fanfare hold. It consists of tests only.
//
// In come the binary, built once, and a seed. The suite starts processes of each role (several of fan-out and deliver),
// NATS and Postgres as processes of their own, and receivers on loopback that are fast, slow, failing, resetting or lying.
// Producers publish and record every request with its answer. A nemesis, whose plan follows from the seed alone, kills,
// stops, continues, partitions and restarts.
//
// Out go the plan, the counts (accepted, delivered, duplicates against their bound, recovery time of each fault) and the
// verdict of a checker, which compares the producers' record, the receivers' record, the database and the API by the
// invariants I1 to I15. The checker knows nothing of Fanfare's code. Its own tests seed violations, each of which it
// must find.
//
// Partitions are made by a TCP proxy before each process, because network namespaces need root: a proxy that forwards
// nothing and closes nothing looks to both ends like a network that drops packets.
//
// The short form, TestCrashPoints, runs in `make test`. `make chaos SEED=n MINUTES=m` runs the long form. docs/reliability.md maps the
// catalogue to tests.
package chaos
