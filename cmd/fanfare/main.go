package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/fanfarehq/fanfare/internal/bench"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes of every command.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// cli is the command line; each command has a file of its own.
type cli struct {
	All     allCmd     `cmd:"" group:"Run" help:"Run every role in this process, with a NATS and a Postgres of its own where none are given."`
	API     apiCmd     `cmd:"" name:"api" group:"Run" help:"Serve the HTTP API, publishing included."`
	Ingest  ingestCmd  `cmd:"" group:"Run" help:"Serve publishing alone: POST /v1/events."`
	Fanout  fanoutCmd  `cmd:"" group:"Run" help:"Match events against subscriptions."`
	Deliver deliverCmd `cmd:"" group:"Run" help:"Send webhooks; retry, dead-letter and record them."`

	Demo   demoCmd   `cmd:"" group:"Try" help:"Publish a few hundred events to endpoints that work, fail twice or never work, and watch."`
	Listen listenCmd `cmd:"" group:"Try" help:"Receive webhooks on this machine, check their signatures and print them."`
	Load   loadCmd   `cmd:"" group:"Try" help:"Publish the demo's events to a running Fanfare, at a rate, until it is stopped."`
	Bench  benches   `cmd:"" group:"Try" help:"Measure what this machine can do."`

	Config   configCmd   `cmd:"" group:"Operate" help:"Print every setting, its default, where its value comes from and what it does."`
	Topology topologyCmd `cmd:"" group:"Operate" help:"Print, apply or check the streams and consumers."`
	Audit    auditCmd    `cmd:"" group:"Operate" help:"Prove that nothing is lost, or name each loss; --repair sends it."`
	Tail     tailCmd     `cmd:"" group:"Operate" help:"Watch outcomes as they happen."`
	OpenAPI  openapiCmd  `cmd:"" name:"openapi" group:"Operate" help:"Print the OpenAPI document of the API, as GET /openapi.json answers it."`
	Rekey    rekeyCmd    `cmd:"" group:"Operate" help:"Encrypt every stored secret anew with the first key of FANFARE_SECRET_KEYS."`
	Health   healthCmd   `cmd:"" group:"Operate" help:"Ask a process of this machine whether it is alive, or with --ready whether it is ready."`
	Version  versionCmd  `cmd:"" group:"Operate" help:"Print the version."`

	BenchReceiver bench.Receiver `cmd:"" hidden:""`
	BenchBare     bench.Bare     `cmd:"" hidden:""`
}

// benches are the measurements; without a name, it is the first.
type benches struct {
	Throughput bench.Throughput `cmd:"" default:"withargs" help:"Measure the whole pipeline against a bare loop of the same POSTs."`
	Isolation  bench.Isolation  `cmd:"" help:"Measure whether endpoints in trouble slow the others."`
	Replay     bench.Replay     `cmd:"" help:"Measure whether a replay of the past slows live deliveries."`
	Soak       bench.Soak       `cmd:"" help:"Hold the whole pipeline at a rate on a small budget of event bytes, and show whether anything grows."`
	Ledger     bench.Ledger     `cmd:"" help:"Measure the lists of the ledger over ten million deliveries, and its size."`
}

const description = `Fanfare turns your platform's events into your customers' webhooks.

Start with "fanfare all": it runs everything in one process and prints a first request to try.
Settings are environment variables; "fanfare config" lists them.`

// run parses the arguments and runs the command that they name. Signals become a context here and nowhere
// else: the first asks the command to stop, a second one ends the process at once.
func run(args []string, stdout, stderr io.Writer) int {
	var c cli
	exited, code := false, exitOK
	parser, err := kong.New(&c,
		kong.Name("fanfare"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Exit(func(n int) { exited, code = true, n }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "fanfare:", err)
		return exitError
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exited { // It was --help.
		return code
	}
	if err != nil {
		fmt.Fprintf(stderr, "fanfare: %v\nTry \"fanfare --help\".\n", err)
		return exitUsage
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // From then on a signal does what it does by default: it kills.

	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(&terminal.Terminal{Out: stdout, Err: stderr}, bench.Version(version())); err != nil {
		if !errors.Is(err, context.Canceled) || ctx.Err() == nil {
			if !errors.Is(err, errLogged) {
				fmt.Fprintln(stderr, "fanfare:", err)
			}
			return exitError
		}
	}
	return exitOK
}
