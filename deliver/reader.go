package deliver

import (
	"database/sql"

	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// reader reads the ledger for the API, logs and audits.
type reader struct {
	db       *sql.DB
	keys     *tenantkeys.Keys // nil: contents are stored in the clear
	examined int              // rows of each table that a page of walk looks at
}

func newReader(db *sql.DB, keys *tenantkeys.Keys) *reader {
	return &reader{db: db, keys: keys, examined: examined}
}
