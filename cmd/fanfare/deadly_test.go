package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/suspect"
)

// deadly is the id of an event, and in its data: the mark that kills the process in this test.
const deadly = "deadly-mark"

// others is how many events are published before the deadly one, and after it.
const others = 20

// maxStarts is how often a process is started until a message that kills it is in quarantine and the process lives: it kills the
// process when it is new, three times beside others, once alone, and once when what it asks for is to be ended. Messages that
// repeat it, as what died had not acknowledged its own, share its count.
const maxStarts = 1 + suspect.MaxTries + 1 + 1 + 1

// A message that kills the process that handles it, by a fault that nothing can recover from, goes to quarantine. The process is
// started again and again until then, everything else is delivered, and it works on.
func TestAMessageThatKillsTheProcessIsQuarantined(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"EVENTS", "TASKS", "ATTEMPTS"} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			h := &killed{T: t, dir: dataDir(t), receiver: newTally(t)}
			h.env = []string{fmt.Sprintf("FANFARE_TEST_FAULTS=%s=%s", stream, deadly)}
			starts := 1
			for ; !h.run(); starts++ {
				if starts == maxStarts {
					t.Fatalf("killed %d times", starts)
				}
			}
			t.Logf("lived at start %d", starts)
		})
	}
}

// killed is an installation whose process is killed.
type killed struct {
	*testing.T
	dir      string
	env      []string
	receiver *tally
	sent     int // steps of publish that succeeded
}

// run starts the process and reports whether it lived until everything was delivered.
func (h *killed) run() bool {
	p := startBinary(h.T, faulty, h.dir, h.env, "all")
	var at running.Process
	if !h.alive(p, "it is ready", func() bool {
		var err error
		at, err = running.Read(h.dir)
		return err == nil && at.PID == p.cmd.Process.Pid
	}) {
		return false
	}
	api := adminClient(h.T, at, h.dir)
	do := func(route string, in, out any) error {
		return api.Do(context.WithoutCancel(h.Context()), route, in, out)
	}
	steps := []func() error{
		func() error {
			all := map[string]any{"name": "all", "url": h.receiver.url, "event_types": []string{"*"}}
			return do("POST /v1/subscriptions?tenant=acme", all, nil)
		},
		func() error { return do("POST /v1/events?tenant=acme", array("before", 0, others), nil) },
		func() error {
			h.alive(p, "the events before it have arrived", func() bool { return len(h.arrived()) == others })
			bad := map[string]any{"id": deadly, "type": "bad", "data": map[string]any{"mark": deadly}}
			// Without an answer the process died of it, so it is on disk.
			_ = do("POST /v1/events?tenant=acme", bad, nil)
			return nil
		},
		func() error { return do("POST /v1/events?tenant=acme", array("after", 0, others), nil) },
	}
	for h.sent < len(steps) && steps[h.sent]() == nil {
		h.sent++
	}
	return h.alive(p, "the deadly message is in quarantine, and all else delivered", func() bool {
		var bad struct {
			Data []struct{ Reason, Detail string }
		}
		if do("GET /v1/quarantine", nil, &bad) != nil {
			return false
		}
		return len(bad.Data) > 0 && bad.Data[0].Reason == "internal" && len(h.arrived()) == 2*others
	})
}

// arrived is how often each of the other events arrived.
func (h *killed) arrived() map[string]int {
	arrived := h.receiver.snapshot()
	delete(arrived, "/ "+deadly)
	return arrived
}

// alive waits until something is so; false if the process was killed before.
func (h *killed) alive(p *process, what string, so func() bool) (lives bool) {
	h.Helper()
	await(h.T, what, func() bool {
		select {
		case <-p.done:
			lives = false
			return true
		default:
			lives = so()
			return lives
		}
	})
	return lives
}
