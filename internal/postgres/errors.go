package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
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
	case "57P01", "57P02", "57P03", // admin_shutdown, crash_shutdown, cannot_connect_now
		"57014", "55P03", // query_canceled (by its timeout), lock_not_available
		"25006", "25P02", "25P03", // read_only_sql_transaction, after it, idle_in_transaction_session_timeout
		"58000", "58030", "XX001", "XX002": // system_error, io_error, data and index corrupted
		return true
	}
	return strings.HasPrefix(string(code), "08") || // connection exceptions
		strings.HasPrefix(string(code), "53") // insufficient resources: disk, memory, connections
}

// isConflict says whether the server rolled a transaction back for the sake of another one, so that trying
// again is the cure.
func isConflict(err error) bool {
	return pq.As(err, "40001", "40P01") != nil
}

// redact leaves the URL, which may hold a password, out of an error's text.
func redact(err error, url string) error {
	if url == "" || !strings.Contains(err.Error(), url) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), url, "(the URL)"))
}
