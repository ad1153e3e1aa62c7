// Only a handler that is done before its message is counted as handed out shows this, and no subscriber can time it so.

package jetstream

import "testing"

// Nothing is left of a message whose handler is done before the message is counted as handed out.
func TestAHandlerMayBeDoneAtOnce(t *testing.T) {
	t.Parallel()
	r := newReady(1, func(subject string) string { return subject })
	d := &delivery{Delivery: Delivery{Subject: "key"}}
	r.add(d)
	r.next()
	r.done(d)
	r.take()
	if len(r.queues) != 0 {
		t.Errorf("%d queues are left of one message that is done", len(r.queues))
	}
	select {
	case <-r.allDone():
	default:
		t.Error("a message that is done is waited for")
	}
}
