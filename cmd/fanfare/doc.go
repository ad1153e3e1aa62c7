// Command fanfare is the one binary: every role, and the tools around them.
//
// In come the command line, the environment (FANFARE_*, see `fanfare config`) and signals. Each subcommand is one
// file; run.go wires the roles, and nothing else knows two concrete parts at once.
//
// Out go the listeners of the API (FANFARE_ADDR) and of operations (FANFARE_OPS_ADDR), log lines on standard error
// and results on standard output. The exit code is 0 if all went well, 1 on an error and 2 on a wrong command line.
//
// It promises that what cannot work is refused at the start with the name of the variable that is wrong, that a role
// is up only when all it needs is, and that `fanfare all` finds its data again at the next start.
//
// At the start, operations are served at once, and NATS and Postgres are awaited for two minutes; an error that waiting cannot
// cure ends the process with exit code 1. Later failures are waited out by the stages; /readyz says which dependency is away. A second process on the same data directory is refused.
//
// The first SIGINT or SIGTERM stops it: after FANFARE_SHUTDOWN_DELAY the API's listener closes, stages drain, servers stop in reverse order, exit 0 within
// 30 s. A second signal ends it at once; so does kill -9, after which the next start picks up the work on disk.
package main
