package servertest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// startTimeout bounds the start of a server on a machine that is busy with other tests.
	startTimeout = 5 * time.Minute
	// poolSize is the connections of one test's pool.
	poolSize = 10
	// template is the migrated database that each test's own is a copy of.
	template = "template_fanfare"
)

// Postgres is a pool of connections to a database of the test's own, with the schema in it and nothing else.
// It is closed and dropped when the test ends.
func Postgres(t testing.TB) *sql.DB {
	t.Helper()
	return open(t, PostgresURL(t))
}

// PostgresURL is the URL of a database of the test's own, with the schema in it and nothing else. Each call
// makes another one; it is dropped when the test ends, with its connections.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return databaseURL(t, template)
}

// EmptyPostgresURL is as PostgresURL, without the schema.
func EmptyPostgresURL(t testing.TB) string {
	t.Helper()
	return databaseURL(t, "template1")
}

func databaseURL(t testing.TB, template string) string {
	t.Helper()
	if !suite.main.Load() {
		t.Fatal("servertest: the package needs `func TestMain(m *testing.M) { servertest.Main(m) }`, which stops Postgres")
	}
	suite.start.Do(func() { suite.pg, suite.err = startCluster() })
	if suite.err != nil {
		t.Fatalf("servertest: %v", suite.err)
	}
	name, err := suite.pg.create(context.Background(), template)
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	t.Cleanup(func() {
		if err := suite.pg.drop(context.Background(), name); err != nil {
			t.Errorf("servertest: %v", err)
		}
	})
	return suite.pg.url(name)
}

// open opens a pool that is closed when the test ends.
func open(t testing.TB, url string) *sql.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	db, err := postgres.Open(ctx, url, poolSize)
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	t.Cleanup(func() { _ = db.Close() }) // it complains of connections that the test has cut
	return db
}

// cluster is the Postgres server that the tests of this process share.
type cluster struct {
	dir      string
	server   *embedded.Postgres
	admin    *sql.DB
	strategy string // of CREATE DATABASE, where it has to be said
	count    atomic.Int64
}

// fast gives up all durability: what the tests write need not survive the machine.
func fast() map[string]string {
	return map[string]string{
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal",
		"max_wal_senders": "0", "max_connections": "600", "shared_buffers": "64MB",
	}
}

func startCluster() (*cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	sweep()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a directory for Postgres: %w", err)
	}
	c := &cluster{dir: dir}
	c.server, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Settings: fast(), Throwaway: true})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// prepare makes the template.
func (c *cluster) prepare(ctx context.Context) error {
	var err error
	if c.admin, err = postgres.Open(ctx, c.url("postgres"), 4); err != nil {
		return err
	}
	var version int
	if err := c.admin.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("read the version of Postgres: %w", err)
	}
	// To copy the files takes a tenth of the processor time (13 ms) of writing them through the log. Before 15 there is no other way.
	if version >= 150000 {
		c.strategy = " STRATEGY file_copy"
	}
	if _, err := c.admin.ExecContext(ctx, "CREATE DATABASE "+template); err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	db, err := postgres.Open(ctx, c.url(template), 2)
	if err != nil {
		return err
	}
	return errors.Join(postgres.Migrate(ctx, db), db.Close())
}

func (c *cluster) create(ctx context.Context, template string) (string, error) {
	name := fmt.Sprintf("test_%d", c.count.Add(1))
	if err := c.whenUnused(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template+c.strategy); err != nil {
		return "", fmt.Errorf("make a database for the test: %w", err)
	}
	return name, nil
}

func (c *cluster) drop(ctx context.Context, name string) error {
	if err := c.whenUnused(ctx, "DROP DATABASE IF EXISTS "+pq.QuoteIdentifier(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop the test's database: %w", err)
	}
	return nil
}

// whenUnused carries out a statement that needs a database without sessions. Postgres waits five seconds for those that it
// ends, and then refuses: on a busy machine they take longer.
func (c *cluster) whenUnused(ctx context.Context, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		_, err := c.admin.ExecContext(ctx, statement)
		var refused *pq.Error
		if !errors.As(err, &refused) || refused.Code.Name() != "object_in_use" {
			return err
		}
	}
}

// url is that of the server with another database.
func (c *cluster) url(database string) string {
	u, err := url.Parse(c.server.URL())
	if err != nil {
		panic(err) // embedded made it
	}
	return "postgres:///" + database + "?" + u.RawQuery
}

func (c *cluster) stop() error {
	var err error
	if c.admin != nil {
		err = c.admin.Close()
	}
	return errors.Join(err, c.server.Stop(), os.RemoveAll(c.dir))
}

const dirPrefix = "fanfare-test-"

// sweep removes what test processes left that were killed. Those that live hold the lock of their directory.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*")) // the pattern is well formed
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		// A young one may be about to be locked.
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		_ = embedded.Discard(dir) // in use, or another sweep's
	}
}
