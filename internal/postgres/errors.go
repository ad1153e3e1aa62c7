package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// ErrUnavailable says that Postgres cannot be used now; the same may succeed later.
var ErrUnavailable = errors.New("Postgres is unavailable")

// IsUnavailable says whether the error means that Postgres cannot be used now: it is not there, is going
// down, takes no more connections, is read-only, is out of disk or memory, or does not answer in time.
// A statement that is wrong, a constraint and a caller who gave up are none of these.
func IsUnavailable(err error) bool {
	if err == nil {
		return false
	}
	if said, ok := errors.AsType[*pq.Error](err); ok {
		return unavailableCode(said.Code)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return false // a certificate's file; the socket of a server that is away is a net.OpError
	}
	for _, away := range []error{
		ErrUnavailable, driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
		os.ErrDeadlineExceeded, context.DeadlineExceeded, syscall.ENOENT,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return !errors.Is(err, context.Canceled)
	}
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}

// unavailableCode judges what the server itself said.
func unavailableCode(code pqerror.Code) bool {
	switch code {
	case pqerror.AdminShutdown, pqerror.CrashShutdown, pqerror.CannotConnectNow,
		pqerror.QueryCanceled, pqerror.LockNotAvailable, pqerror.IdleInTransactionSessionTimeout, // by our timeouts
		pqerror.ReadOnlySQLTransaction, pqerror.SystemError, pqerror.IOError, pqerror.DataCorrupted, pqerror.IndexCorrupted:
		return true
	}
	return strings.HasPrefix(string(code), "08") || // connection exceptions
		strings.HasPrefix(string(code), "53") // insufficient resources: disk, memory, connections
}

// isConflict says whether the server rolled a transaction back for the sake of another one, so that trying
// again is the cure: a serialization failure, a deadlock, or a row for the rest whose own partition was made
// in that moment.
func isConflict(err error) bool {
	if pq.As(err, pqerror.TRSerializationFailure, pqerror.TRDeadlockDetected) != nil {
		return true
	}
	refused := pq.As(err, pqerror.CheckViolation)
	return refused != nil && refused.Constraint == "" && strings.HasSuffix(refused.Table, "_rest")
}

// badURL reports the error of a connection URL without showing any of it: where parsing ends, the text of the
// error may be a piece of the password.
func badURL(err error, raw string) error {
	u, parseErr := url.Parse(raw)
	if parseErr != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("it is not of the form postgres://user:password@host:5432/database?sslmode=require")
	}
	if password, _ := u.User.Password(); password != "" && strings.Contains(err.Error(), password) {
		return errors.New("one of its parameters is wrong")
	}
	return err
}
