// Package servertest gives tests real servers: NATS with JetStream, Postgres with the schema, and HTTP
// receivers. Only tests import it.
//
// In comes a test; a package that uses Postgres or RestartableNATS has one line of its own:
//
//	func TestMain(m *testing.M) { servertest.Main(m) }
//
// Out go servers that are ready. NATS starts one in this process, within milliseconds. Postgres gives a database of
// the test's own, a copy of a migrated template, on the one server that the test process shares; the first such
// test waits for about a second, the others for some hundredths. RestartableNATS and RestartablePostgres are one test's own and
// can be stopped, killed, frozen and started again on the same data and address. A Receiver records requests, answers
// by a script, and waits for requests by signal, with a deadline that says what came instead. A House puts together
// what the tests of most stages begin with.
//
// It promises that tests do not meet: each has its own database, directory and port, so all may run in parallel. And
// that nothing is left behind: what a test started ends with it, the shared server ends in Main, which then also looks
// for leaked goroutines. The servers of a test process that is killed end with it.
//
// When a server cannot be started, the test fails and says why; when Postgres is missing, how to get it. Durability is
// given up where a test cannot see it: Postgres does not sync. A RestartablePostgres still keeps every commit through a
// Kill, and NATS syncs as it does in production.
//
// It stops with the tests. Directories that killed processes left are swept by a later run.
package servertest
