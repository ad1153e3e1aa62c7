package chaos_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/crashpoint"
)

// TestCrashPoints has a process for each place where a crash matters, which fails, then stalls and then dies there, and fails if
// one is never reached; then it kills NATS and Postgres. It is the short form of the suite. In the long form other processes do
// one of the three alone.
func TestCrashPoints(t *testing.T) {
	if *minutes == 0 {
		visit(t, "fail", "stall", "kill")
		return
	}
	for _, action := range []string{"kill", "fail", "stall"} {
		t.Run(action, func(t *testing.T) { visit(t, action) })
	}
}

// whole is how many processes without crash points there are: they bring the others work, and take theirs over.
const whole = 4

// visit has a process for each crash point, all at once, beside whole ones.
func visit(t *testing.T, actions ...string) {
	path, err := breakable()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	w := newWorld(t, counts{api: 1, ingest: 1, fanout: 1, deliver: 1})
	logs := t.TempDir()
	for i, point := range crashpoint.Points() {
		role, n := roleOf(point), 2 // Not the first time, so that something is in flight.
		if point == crashpoint.DeliverHandedOff || point == crashpoint.DeliverClaimed {
			n = 1 // Seldom reached.
		}
		what := point
		for j, action := range actions {
			what += fmt.Sprintf(" %s %d", action, n+j)
		}
		env := []string{"FANFARE_DELIVER_HAND_OFF=100ms", "FANFARE_TEST_CRASH_LOG=" + filepath.Join(logs, point), "FANFARE_TEST_CRASH_POINT=" + what}
		if len(actions) > 1 {
			env = append(env, "FANFARE_TEST_CRASH_STALL=2s")
		}
		w.add(path, role, i, env...)
	}
	for _, p := range w.processes {
		p.await()
	}
	producers := w.populate(2, 10, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	f := fault{name: strings.Join(actions, ", ") + " at every crash point", injected: time.Now(), bound: 2 * time.Minute, mayDuplicate: true, worksInFlight: 7 * inHand}
	var publishing sync.WaitGroup
	for _, p := range producers {
		publishing.Go(func() { p.run(ctx, t.Context()) })
	}
	if left := w.reach(ctx, logs, producers[0]); len(left) > 0 {
		t.Errorf("never reached: %v", left)
	}
	t.Logf("all points were reached after %.1fs", time.Since(f.injected).Seconds())
	w.retire()
	f.healed = time.Now()
	w.strike(step{breaks: "kill both servers", lasts: time.Second}, f.bound)
	stop()
	publishing.Wait()
	if w.settled(3 * time.Minute) {
		f.recovered = time.Now()
	}
	f.bound = 4 * time.Minute // With the servers' own recovery.
	w.rec.do(func(h *history) { h.faults = append(h.faults, f) })
	report(t, w.collect())
}

// reach publishes large requests beside the producers, so that batches form, until all points were reached. It returns those
// that were not.
func (w *world) reach(ctx context.Context, logs string, p *producer) (left []string) {
	batches := 0
	eventually(time.Minute, func() bool {
		left = nil
		for _, point := range crashpoint.Points() {
			if content, err := os.ReadFile(filepath.Join(logs, point)); err != nil || string(content) != point {
				left = append(left, point)
			}
		}
		if strings.Contains(strings.Join(left, " "), crashpoint.PublishBatch) {
			batches++
			p.publish(ctx, bulk(p.tenant, batches), batches)
		}
		return len(left) == 0
	})
	return left
}

// bulk makes the events of a large request, which no subscription matches.
func bulk(tenant string, batch int) []outgoing {
	events := make([]outgoing, 100)
	for i := range events {
		events[i] = outgoing{id: fmt.Sprintf("%s-batch%d-%d", tenant, batch, i), eventType: "bulk.import", data: `{"bulk":true}`}
	}
	return events
}

// retire ends the processes that have crash points, in the orderly way where they live.
func (w *world) retire() {
	for _, p := range w.processes[whole:] {
		if p.alive() {
			p.term()
		}
	}
	w.processes = w.processes[:whole]
}

// roleOf is the role whose processes pass a point.
func roleOf(point string) string {
	stage, _, _ := strings.Cut(point, "-")
	switch stage {
	case "publish":
		return "ingest"
	case "recorder":
		return "deliver"
	default:
		return stage
	}
}
