// The rule is told the time: minutes of requests take milliseconds, and properties hold for whatever is asked when.

package throttle

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// timed is a rate limit and its state.
type timed struct {
	pace  pace
	meter meter
}

func newTimed(limit subscriptions.RateLimit) *timed {
	p := paceOf(limit)
	return &timed{pace: p, meter: meter{gap: p.gap}}
}

func (m *timed) take(now int64, a ask) grant { return m.pace.take(&m.meter, now, a) }

// excess returns by how much the busiest ten seconds exceed what a limit allows in them.
func excess(sent []int64, limit subscriptions.RateLimit) float64 {
	slices.Sort(sent)
	window := max(10*time.Second, limit.Per).Microseconds()
	most, first := 0, 0
	for i, at := range sent {
		for sent[first] <= at-window {
			first++
		}
		most = max(most, i-first+1)
	}
	allowed := float64(limit.Limit) * float64(window) / float64(limit.Per.Microseconds())
	return float64(most)/allowed - 1
}

// From one a minute to a thousand a second: several workers that ask for all they can get, and come back when they are
// told to, send at the limit: within a tenth of it, over any ten seconds.
func TestRateLimitsAreKeptAndUsed(t *testing.T) {
	t.Parallel()
	for _, limit := range []subscriptions.RateLimit{
		{Limit: 1, Per: time.Minute}, {Limit: 30, Per: time.Minute}, {Limit: 1, Per: time.Second}, {Limit: 7, Per: time.Second},
		{Limit: 100, Per: time.Second}, {Limit: 1000, Per: time.Second}, {Limit: 6000, Per: time.Minute}, {Limit: 3, Per: 100 * time.Millisecond},
	} {
		m := newTimed(limit)
		gap := m.pace.gap
		begun := time.Unix(1_800_000_000, 0).UnixMicro()
		length := max(time.Minute, 20*limit.Per).Microseconds()
		var sent, waits []int64
		for now := begun; now < begun+length; now += 10_000 {
			due := 0
			for due < len(waits) && waits[due] <= now {
				due++
			}
			waits = waits[due:]
			a := ask{queued: due}
			if len(waits) < 2000 {
				a.fresh = 3 + int(20_000/gap)
			}
			g := m.take(now, a)
			sent = append(sent, g.permits...)
			waits = append(waits, g.waits...)
			slices.Sort(waits)
		}
		if e := excess(sent, limit); e > 0.1001 {
			t.Errorf("%+v: %.0f%% too many in ten seconds", limit, 100*e)
		}
		want := float64(length) / float64(gap)
		if got := float64(len(sent)); got < 0.9*want-1 {
			t.Errorf("%+v: %.0f requests were permitted, want about %.0f", limit, got, want)
		}
	}
}

// Whatever is asked when: the limit is kept, each who asked has a permit or a time, and times do not coincide.
func TestRateLimitsWhateverIsAsked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := subscriptions.RateLimit{
			Limit: rapid.IntRange(1, 1000).Draw(t, "limit"),
			Per:   time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second,
		}
		m := newTimed(limit)
		now := time.Unix(1_800_000_000, 0).UnixMicro()
		var sent []int64
		var last int64
		for range rapid.IntRange(1, 50).Draw(t, "times") {
			now += rapid.Int64Range(0, 5_000_000).Draw(t, "pause")
			a := ask{
				queued: rapid.IntRange(0, 50).Draw(t, "queued"), fresh: rapid.IntRange(0, 50).Draw(t, "fresh"),
				spare: rapid.IntRange(0, 50).Draw(t, "spare"),
			}
			g := m.take(now, a)
			if n := a.queued + a.fresh; len(g.permits) < n && len(g.permits)+len(g.waits) != n || len(g.permits) >= n && len(g.waits) != 0 {
				t.Fatalf("%+v asked: got %d permits and %d times", a, len(g.permits), len(g.waits))
			}
			for _, at := range g.permits {
				if at < now || at > now+permitSoon {
					t.Fatalf("permitted in %d us", at-now)
				}
			}
			for _, at := range g.waits {
				if at < now || at <= last {
					t.Fatalf("told to come back at %d, now it is %d, the one before was told %d", at, now, last)
				}
				last = at
			}
			sent = append(sent, g.permits...)
		}
		if e := excess(sent, limit); e > 0.1001+1/float64(limit.Limit) {
			t.Fatalf("%+v: %.0f%% too many in ten seconds", limit, 100*e)
		}
	})
}

// A raised limit holds at once for what waits by the old one.
func TestARateLimitThatIsChanged(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0).UnixMicro()
	m := newTimed(subscriptions.RateLimit{Limit: 1, Per: time.Hour})
	if g := m.take(now, ask{fresh: 10}); len(g.permits) != 1 || len(g.waits) != 9 {
		t.Fatalf("got %+v", g)
	}
	m.pace = paceOf(subscriptions.RateLimit{Limit: 100, Per: time.Second})
	if g := m.take(now, ask{fresh: 10}); len(g.permits) != 10 {
		t.Errorf("got %d permits at once after the limit was raised, want 10", len(g.permits))
	}
}
