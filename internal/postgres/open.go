package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/retry"
)

const (
	// connectTimeout bounds one try to connect.
	connectTimeout = 5 * time.Second
	// statementTimeout, lockTimeout and idleTimeout are kept by the server: they free what a process of
	// ours holds that hangs or was cut off.
	statementTimeout = 30 * time.Second
	lockTimeout      = 10 * time.Second
	idleTimeout      = 30 * time.Second
	// answerTimeout is how long we wait for bytes of the server: longer than any statement may take, so
	// what exceeds it is a server that is stopped or cut off.
	answerTimeout = statementTimeout + 5*time.Second
	// MinVersion is the oldest major version of Postgres that Fanfare works with.
	MinVersion = 14
	// pingPause is about the pause between two tries of Open.
	pingPause = 200 * time.Millisecond
)

// Open makes a pool of at most maxConns connections and returns once the server answers; it tries again until
// ctx ends. The URL has libpq's forms; several hosts are tried in turn for the one that takes writes. A URL that cannot be
// right, a wrong password, an unknown database and a pooler in transaction mode are refused at once.
//
// The server ends statements of ours after 30 s, waits for locks after 10 s and transactions that do nothing
// after 30 s, unless the URL says otherwise.
//
// An argument of type []byte is sent in binary: right for a bytea and for a Column. JSON must be given as a string, and
// a bytea never. A statement that is not prepared takes one round trip.
func Open(ctx context.Context, url string, maxConns int) (*sql.DB, error) {
	return OpenReporting(ctx, url, maxConns, func(error) {})
}

// OpenReporting is Open that calls report with the reason of each failed try.
func OpenReporting(ctx context.Context, url string, maxConns int, report func(error)) (*sql.DB, error) {
	to, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("read the Postgres URL: %w", err)
	}
	// Arguments that are bytes go in binary.
	to.cfg.BinaryParameters = true
	db := sql.OpenDB(&connector{target: to, setup: timeouts(to.cfg.Runtime)})
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	// Servers behind one name change; connections must not outlive that for long.
	db.SetConnMaxLifetime(time.Hour)
	err = awaitServer(ctx, db, report)
	if err == nil {
		err = refuseTransactionPooling(ctx, db)
	}
	if err == nil {
		err = refuseOldServer(ctx, db)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// timeouts is the statement that sets a session's timeouts, but those that the URL gives as start-up parameters. They are
// no start-up parameters of ours, as poolers refuse those that they do not know.
func timeouts(given map[string]string) string {
	var set strings.Builder
	for _, timeout := range []struct {
		name string
		is   time.Duration
	}{
		{"statement_timeout", statementTimeout}, {"lock_timeout", lockTimeout}, {"idle_in_transaction_session_timeout", idleTimeout},
	} {
		if _, ok := given[timeout.name]; !ok {
			fmt.Fprintf(&set, "SET %s = %d;", timeout.name, timeout.is.Milliseconds())
		}
	}
	return set.String()
}

// refuseOldServer refuses a server of a version that Fanfare is not tested with.
func refuseOldServer(ctx context.Context, db *sql.DB) error {
	var number int
	if err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&number); err != nil {
		return fmt.Errorf("ask Postgres for its version: %w", err)
	}
	if major := number / 10000; major < MinVersion {
		return fmt.Errorf("the server is Postgres %d; Fanfare needs %d or later", major, MinVersion)
	}
	return nil
}

// awaitServer pings until the server answers, ctx ends, or the error is one that waiting cannot cure.
func awaitServer(ctx context.Context, db *sql.DB, report func(error)) error {
	pauses := retry.Pauses{First: pingPause, Most: pingPause}
	err := retry.Until(ctx, pauses, func() error { return ping(ctx, db) }, func(err error) bool {
		if !IsUnavailable(err) {
			return false
		}
		report(err)
		return true
	})
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", errors.Join(context.Cause(ctx), err))
	}
	return nil
}

// ping asks something: the driver's own ping hides why it failed.
func ping(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	var one int
	return db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

// connector makes the connections of a pool.
type connector struct {
	target
	setup string // sent on each new connection
	stale staleness
	full  fullness

	transactions transactions
}

// Connect opens one connection whose reads and writes cannot hang.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := connect(ctx, c.target, answerTimeout)
	if err != nil {
		return nil, err
	}
	conn.stale, conn.full, conn.opened, conn.transactions = &c.stale, &c.full, time.Now(), &c.transactions
	if c.setup == "" {
		return conn, nil
	}
	if _, err := conn.ExecContext(ctx, c.setup, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Driver is the connector itself, by which Migrate finds the configuration of a pool.
func (c *connector) Driver() driver.Driver { return c }

// Open is not for use: the pool calls Connect.
func (c *connector) Open(string) (driver.Conn, error) { return c.Connect(context.Background()) }

func connect(ctx context.Context, t target, answer time.Duration) (*guardedConn, error) {
	cfg := t.cfg.Clone()
	if cfg.ApplicationName == "" {
		cfg.ApplicationName = "fanfare"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	to, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure the connection: %w", err)
	}
	dial := &dialer{answer: answer, keepAlive: t.keepAlive}
	to.Dialer(dial)
	stop := context.AfterFunc(ctx, dial.abort) // the driver's handshake knows no context
	conn, err := to.Connect(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	if !stop() {
		return nil, errors.Join(context.Cause(ctx), conn.Close())
	}
	return guard(conn, dial.conn())
}
