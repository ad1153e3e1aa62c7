package postgres_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

func TestIsUnavailable(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{dial, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host"}}, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{&net.OpError{Op: "dial", Err: syscall.ENOENT}, true}, // the socket is not there
		{syscall.EPIPE, true},
		{driver.ErrBadConn, true},
		{sql.ErrConnDone, true},
		{io.EOF, true},
		{io.ErrUnexpectedEOF, true},
		{os.ErrDeadlineExceeded, true},
		{context.DeadlineExceeded, true},
		{postgres.ErrUnavailable, true},
		{context.Canceled, false},
		{sql.ErrNoRows, false},
		{sql.ErrTxDone, false},
		{errors.New("anything"), false},

		{&pq.Error{Code: "08006"}, true},  // connection_failure
		{&pq.Error{Code: "57P01"}, true},  // admin_shutdown
		{&pq.Error{Code: "57P02"}, true},  // crash_shutdown
		{&pq.Error{Code: "57P03"}, true},  // cannot_connect_now
		{&pq.Error{Code: "53300"}, true},  // too_many_connections
		{&pq.Error{Code: "53100"}, true},  // disk_full
		{&pq.Error{Code: "53200"}, true},  // out_of_memory
		{&pq.Error{Code: "25006"}, true},  // read_only_sql_transaction
		{&pq.Error{Code: "58030"}, true},  // io_error
		{&pq.Error{Code: "57014"}, true},  // query_canceled
		{&pq.Error{Code: "55P03"}, true},  // lock_not_available
		{&pq.Error{Code: "23505"}, false}, // unique_violation
		{&pq.Error{Code: "22P02"}, false}, // invalid_text_representation
		{&pq.Error{Code: "42P01"}, false}, // undefined_table
		{&pq.Error{Code: "40001"}, false}, // serialization_failure
		{&pq.Error{Code: "28P01"}, false}, // invalid_password
		{&pq.Error{Code: "3D000"}, false}, // invalid_catalog_name
	} {
		if got := postgres.IsUnavailable(test.err); got != test.want {
			t.Errorf("%v: got %v, want %v", test.err, got, test.want)
		}
		if test.err == nil {
			continue
		}
		if got := postgres.IsUnavailable(fmt.Errorf("read the ledger: %w", test.err)); got != test.want {
			t.Errorf("wrapped %v: got %v, want %v", test.err, got, test.want)
		}
	}
}
