package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// Ledger measures the lists over a full ledger, in a Postgres of its own that is thrown away.
type Ledger struct {
	Rows    int `default:"10000000" help:"How many deliveries the ledger holds."`
	Tenants int `default:"2000" help:"How many tenants they belong to; the first has a tenth of all."`
	Days    int `default:"30" help:"Over how many days they are spread, today the last."`
	Calls   int `default:"200" help:"How often each list is read."`

	Most time.Duration `help:"Fail if the p99 of a list is longer; 0 is any."`
}

// Run fills a ledger, reads each list and prints how long that took and how much room it takes.
func (cmd Ledger) Run(ctx context.Context, c *terminal.Terminal) (err error) {
	if cmd.Rows < cmd.Tenants || cmd.Tenants < 2 || cmd.Days < 1 || cmd.Calls < 1 {
		return errors.New("--rows must not be less than --tenants, which are 2 or more; --days and --calls are 1 or more")
	}
	dir, err := tempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	return cmd.measure(ctx, c, server.URL())
}

// measure fills an empty database and reads the lists.
func (cmd Ledger) measure(ctx context.Context, c *terminal.Terminal, url string) error {
	db, err := postgres.Open(ctx, url, 4)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := postgres.Migrate(ctx, db); err != nil {
		return err
	}
	filler, err := sql.Open("postgres", url) // without the timeouts of the other
	if err != nil {
		return err
	}
	defer filler.Close()
	b := &ledgerBench{cmd: cmd, db: db, filler: filler, console: c, today: time.Now().UTC().Truncate(24 * time.Hour)}
	if err := b.fill(ctx); err != nil {
		return fmt.Errorf("fill the ledger: %w", err)
	}
	if err := b.lists(ctx); err != nil {
		return err
	}
	return b.sizes(ctx)
}

// ledgerBench is one run.
type ledgerBench struct {
	cmd     Ledger
	db      *sql.DB
	filler  *sql.DB
	console *terminal.Terminal
	today   time.Time
}

// sizes prints the room that a million deliveries take, with their indexes.
func (b *ledgerBench) sizes(ctx context.Context) error {
	for _, table := range []string{"events", "deliveries"} {
		var bytes int64
		if err := b.db.QueryRowContext(ctx, `SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = $1::regclass`, table).Scan(&bytes); err != nil {
			return err
		}
		fmt.Fprintf(b.console.Out, "%s: %.0f MB for each million deliveries\n", table, float64(bytes)/1e6/(float64(b.cmd.Rows)/1e6))
	}
	var bytes, rows int64
	err := b.db.QueryRowContext(ctx, `SELECT pg_total_relation_size('delivery_counts'), count(*) FROM delivery_counts`).Scan(&bytes, &rows)
	fmt.Fprintf(b.console.Out, "delivery_counts: %.0f MB, %d rows\n", float64(bytes)/1e6, rows)
	return err
}
