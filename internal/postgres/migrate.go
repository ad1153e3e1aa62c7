package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"database/sql/driver"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the advisory lock that one migrating process at a time holds. Any number will do, as long
// as nobody else of the database takes it.
const migrationLock = 0x66616e66617265 // "fanfare"

// Migrate brings the schema up to date. Any number of processes may call it at once: one does the work, the
// others wait for it. A schema that is newer than this program is left alone.
//
// It needs sessions, so a pooler in transaction mode must be gone around.
func Migrate(ctx context.Context, db *sql.DB) error {
	if c, ok := db.Driver().(*connector); ok {
		// A migration may take long: the pool's timeouts are not for it.
		db = sql.OpenDB(patient{c})
		db.SetMaxOpenConns(1)
		defer db.Close()
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(sessionLock{}), goose.WithTableName("migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the schema: %w", err)
	}
	return nil
}

// patient connects without timeouts.
type patient struct{ *connector }

func (p patient) Connect(ctx context.Context) (driver.Conn, error) {
	to := p.target
	to.cfg.BinaryParameters = false
	return connect(ctx, to, 0)
}

// sessionLock queues the migrating processes at an advisory lock. goose's own asks again every few seconds
// instead, which makes each start of a second process slow.
type sessionLock struct{}

func (sessionLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock))
	return err
}

func (sessionLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	var held bool
	if err := conn.QueryRowContext(ctx, "SELECT pg_advisory_unlock($1)", int64(migrationLock)).Scan(&held); err != nil {
		return err
	}
	if !held {
		return errors.New("the migration lock was lost")
	}
	return nil
}
