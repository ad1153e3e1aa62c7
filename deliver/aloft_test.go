package deliver_test

import (
	"testing"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A task that is handed over again while its delivery is in flight makes no second one.
func TestATaskThatIsSentAgainMeanwhileIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.worker(quick())
	r.recorder()
	release := make(chan struct{})
	receiver := servertest.NewReceiver(t, servertest.After(release, servertest.Status(200)))
	task := r.task(r.event(), r.subscribe(receiver.URL, nil))
	send := func() {
		if err := r.outbox.Send(t.Context(), task); err != nil {
			t.Fatal(err)
		}
	}
	send()
	receiver.Wait(1)
	task.Suspect = true
	send()
	r.Eventually("the second task to be seen", func() bool { return w.metric("fanfare_deliveries_skipped_total") == 1 })
	close(release)
	to := task.Targets[0]
	r.ended(outcome.ID(task.Event.UID, to.Subscription, to.Generation, task.Event.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
	r.settled()
	if n := len(receiver.Requests()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}
