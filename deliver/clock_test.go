package deliver_test

import (
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A worker whose clock is ten minutes behind makes its retries early, and each delivery once: leases go by Postgres's clock, and
// it shares them with a worker whose clock is right.
func TestAClockThatIsWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.parts(quick())
	p.deps.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) }
	r.start(p)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(200))
	entry := r.ended(r.send(r.event(), r.subscribe(receiver.URL, retries(time.Second))), outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := len(receiver.Requests()); n != 2 || entry.Attempts != 2 {
		t.Errorf("got %d requests and %d attempts, want 2 and 2", n, entry.Attempts)
	}
}
