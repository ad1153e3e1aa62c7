package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// runAudit runs the command beside a fanfare that runs with the directory, and returns its exit code and what it printed.
func runAudit(t *testing.T, dir string, args ...string) (code int, out string) {
	t.Helper()
	p := start(t, dir, nil, append([]string{"audit"}, args...)...)
	code = p.exitCode()
	return code, p.out.String()
}

// The command tells by its exit code whether something is missing, names it, and mends it.
func TestAuditCommand(t *testing.T) {
	t.Parallel()
	dir, receiver := dataDir(t), newTally(t)
	_, at := startAll(t, dir)
	api := adminClient(t, at, dir)
	subscribe(t, api, "audited", receiver.url, "load.*")
	const n = 20
	sent(t, api, array("load.test", 0, n))
	db, err := postgres.Open(t.Context(), at.Postgres, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	delivered := func() (got int) {
		if err := db.QueryRowContext(context.WithoutCancel(t.Context()), `SELECT count(*) FROM deliveries`).Scan(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	await(t, "all is in the ledger", func() bool { return delivered() == n })
	if code, out := runAudit(t, dir); code != exitOK || !strings.Contains(out, "balanced") || strings.Contains(out, "GAP") {
		t.Errorf("of what is in order: exit code %d, %s", code, out)
	}

	var sub string
	if err := db.QueryRowContext(t.Context(), `DELETE FROM deliveries WHERE event_id = 'load_test_7' RETURNING subscription_id`).Scan(&sub); err != nil {
		t.Fatal(err)
	}
	code, out := runAudit(t, dir)
	if want := fmt.Sprintf("GAP delivery_missing: event load_test_7, subscription %s", sub); code != exitError || !strings.Contains(out, want) {
		t.Errorf("of a delivery that is missing: exit code %d, %s, want %s", code, out, want)
	}
	code, out = runAudit(t, dir, "--json")
	var found struct {
		Balanced bool
		Gaps     []struct{ Kind string }
	}
	_, body, _ := strings.Cut(out, "{\n") // The log comes before.
	if err := json.NewDecoder(strings.NewReader("{" + body)).Decode(&found); err != nil || code != exitError || found.Balanced || len(found.Gaps) != 1 {
		t.Errorf("as JSON: exit code %d, %v, %s", code, err, out)
	}
	if code, out := runAudit(t, dir, "--repair"); code != exitOK || !strings.Contains(out, "1 gaps mended, 0 cannot be") {
		t.Errorf("the repair: exit code %d, %s", code, out)
	}
	await(t, "what was missing is made", func() bool { return delivered() == n })
	if code, out := runAudit(t, dir); code != exitOK {
		t.Errorf("after the repair: exit code %d, %s", code, out)
	}
}
