package postgres

import (
	"database/sql"
	"sync"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// fullness is the last refusal of a pool's statement for lack of disk space.
type fullness struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// judge records the error if it is such a refusal.
func (f *fullness) judge(err error) {
	if err == nil || pq.As(err, pqerror.DiskFull) == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.err = time.Now(), err
}

// DiskFull returns the last error by which the server refused a statement of the pool for lack of disk space, nil if that is
// longer ago than within. A small write says nothing of it: while pages have room, it succeeds on a full disk.
func DiskFull(db *sql.DB, within time.Duration) error {
	c, ok := db.Driver().(*connector)
	if !ok {
		return nil // Another package's pool.
	}
	c.full.mu.Lock()
	defer c.full.mu.Unlock()
	if time.Since(c.full.at) > within {
		return nil
	}
	return c.full.err
}
