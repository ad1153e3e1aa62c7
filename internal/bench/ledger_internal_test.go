// The command starts a Postgres of its own and fills it for long; here it measures one of the tests.

package bench

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// A small ledger is filled and each of its lists is read, as a large one's are.
func TestLedgerReadsEachList(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := Ledger{Rows: 10_000, Tenants: 20, Days: 3, Calls: 1}
	if err := cmd.measure(t.Context(), &terminal.Terminal{Out: &out, Err: io.Discard}, servertest.PostgresURL(t)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/failures", "/v1/metrics/deliveries?step=1d", "/explain?tenant=t0", "/v1/overview", "/v1/tenants/t0", "/v1/jobs"} {
		if !strings.Contains(out.String(), path) {
			t.Errorf("%s was not measured", path)
		}
	}
	cmd.Most = time.Nanosecond
	b := &ledgerBench{cmd: cmd, console: &terminal.Terminal{Out: io.Discard}}
	if err := b.slower([]string{"/v1/jobs"}); err == nil || !strings.Contains(err.Error(), "/v1/jobs") {
		t.Errorf("a slow list: %v", err)
	}
}
