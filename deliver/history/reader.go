package history

import (
	"database/sql"

	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// Reader reads the ledger for the API, logs and audits.
type Reader struct {
	db       *sql.DB
	keys     *tenantkeys.Keys // nil: contents are stored in the clear
	Examined int              // rows of each table that a page of walk looks at
	mostSums int              // see sumsOfAll
}

// NewReader makes a Reader; without keys, contents are stored in the clear.
func NewReader(db *sql.DB, keys *tenantkeys.Keys) *Reader {
	return &Reader{db: db, keys: keys, Examined: Examined, mostSums: sumsOfAll}
}
