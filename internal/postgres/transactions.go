package postgres

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// transactions measures those of a pool, from their begin to their end; nothing until it is made to.
type transactions struct {
	times atomic.Pointer[prometheus.HistogramVec]
}

// Measure registers how long the transactions of a pool that Open made take. Statements outside of transactions are not
// among them.
func Measure(db *sql.DB, to prometheus.Registerer) error {
	c, ok := db.Driver().(*connector)
	if !ok {
		return fmt.Errorf("measure transactions: the pool is not of this package but %T", db.Driver())
	}
	times := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "fanfare_postgres_transaction_seconds", Help: "How long transactions took, from begin to their end, by end.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 8), // 1 ms to 16 s; statements end after 30 s
	}, []string{"end"})
	for _, end := range []string{"commit", "rollback"} {
		times.WithLabelValues(end)
	}
	if err := to.Register(times); err != nil {
		return fmt.Errorf("measure transactions: %w", err)
	}
	c.transactions.times.Store(times)
	return nil
}

// begin returns a transaction that is measured.
func (t *transactions) begin(tx driver.Tx) driver.Tx {
	times := t.times.Load()
	if times == nil {
		return tx
	}
	return &measuredTx{tx, times, time.Now()}
}

type measuredTx struct {
	driver.Tx
	times *prometheus.HistogramVec
	begun time.Time
}

// Commit counts as a rollback if it fails.
func (t *measuredTx) Commit() error {
	err := t.Tx.Commit()
	if err != nil {
		t.ended("rollback")
	} else {
		t.ended("commit")
	}
	return err
}

func (t *measuredTx) Rollback() error {
	t.ended("rollback")
	return t.Tx.Rollback()
}

func (t *measuredTx) ended(how string) {
	t.times.WithLabelValues(how).Observe(time.Since(t.begun).Seconds())
}
