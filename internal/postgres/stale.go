package postgres

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// staleEvery is how often a pool may be told to give up all its sessions: while a server stays read-only, each session
// reports it, and connecting again for each statement would be a storm.
const staleEvery = time.Second

// staleness is the time before which the sessions of a pool were opened that must not be used any more. After a
// failover, or on a server that was read-only when they were opened, sessions answer every write with an error for as long
// as they live, an hour; one of them reporting it is reason to open all anew.
type staleness struct{ before atomic.Int64 }

// report says that a session was found to be of no more use.
func (s *staleness) report(now time.Time) {
	before := s.before.Load()
	if now.UnixNano()-before > int64(staleEvery) {
		s.before.CompareAndSwap(before, now.UnixNano())
	}
}

// covers reports whether a session opened at that time is stale.
func (s *staleness) covers(opened time.Time) bool { return opened.UnixNano() < s.before.Load() }

// endsSession reports whether the error means that its session is of no more use: it cannot write, or the server ends it.
func endsSession(err error) bool {
	if err == nil {
		return false
	}
	said := pq.As(err)
	if said == nil {
		return false
	}
	switch said.Code {
	case pqerror.ReadOnlySQLTransaction, pqerror.AdminShutdown, pqerror.CrashShutdown, pqerror.CannotConnectNow:
		return true
	}
	return strings.HasPrefix(string(said.Code), "08")
}
