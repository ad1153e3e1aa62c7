package servertest

import (
	"database/sql"
	"encoding/json"
	"testing"
)

// planNode is a step of a plan that was carried out.
type planNode struct {
	Rows    float64    `json:"Actual Rows"`
	Loops   float64    `json:"Actual Loops"`
	Removed float64    `json:"Rows Removed by Filter"`
	Plans   []planNode `json:"Plans"`
}

// most returns the most rows that one step looked at.
func (n planNode) most() float64 {
	most := (n.Rows + n.Removed) * n.Loops
	for _, p := range n.Plans {
		most = max(most, p.most())
	}
	return most
}

// Examined carries a statement out and returns the most rows that one step of it looked at. The statement is rolled back.
func Examined(t testing.TB, db *sql.DB, query string, args ...any) float64 {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing is to be kept
	if _, err := tx.Exec(`SET LOCAL enable_seqscan = off`); err != nil {
		t.Fatal(err)
	}
	var raw []byte
	if err := tx.QueryRow(`EXPLAIN (ANALYZE, FORMAT JSON) `+query, args...).Scan(&raw); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal(raw, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan.most()
}
