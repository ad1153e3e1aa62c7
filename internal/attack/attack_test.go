package attack_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	long  = flag.Bool("attack.long", false, "run each attack at full size, against a process of its own")
	tries = flag.Int("attack.tries", 0, "measure the latency so many times at most; 0: as the form says")
	only  = flag.String("attack.only", "", "run the attacks whose name contains this text")
)

// form is how much of an attack runs, and what the victim's latency may become.
type form struct {
	quiet, window time.Duration // how long the victim is measured, in peace and under attack
	rate          int           // events a second of the victim
	factor        float64       // the p99 under attack may be so many times the quiet one
	floor         time.Duration // a quiet p99 below this counts as this
	tries         int           // how often the latency is measured before it is a verdict
	patience      time.Duration // bounds waits for what must happen
}

var (
	shortForm = form{
		quiet: 400 * time.Millisecond, window: time.Second, rate: 20,
		factor: 10, floor: 600 * time.Millisecond, tries: 6, patience: time.Minute,
	}
	longForm = form{
		quiet: 8 * time.Second, window: 12 * time.Second, rate: 40,
		factor: 3, floor: 20 * time.Millisecond, tries: 3, patience: time.Minute,
	}
)

// memoryMost bounds the memory of the fanfare process in MB.
const memoryMost = 600

// attack is one row of the table. Its functions run in the order of the fields.
type attack struct {
	name   string
	victim func(*scene) string // where the victim's endpoint is; nil: on a host of its own
	ready  func(*scene)        // prepared before the quiet window: keys, types, subscriptions
	strike func(*scene)        // starts the attack, which ends with the scene's context
	holds  func(*scene)        // what else must hold, once the attack is over
}

// attacks is the suite.
func attacks() []attack {
	return []attack{
		freshSlowSubscriptions(), slowAtSharedHost(), deadHosts(), plainHTTPOfHTTPSHost(), manySubscriptions(),
		tricklingUploads(), announcedBodies(), garbageKeys(), unknownFields(),
		costlySchemaHTTP(), costlySchemaNATS(), recursiveSchema(), quarantineFlood(), largeEventsNATS(), largeEventsHTTP(),
		parallelPreviews(), largeSubscriptions(), manyTails(), replayAndHeldBacklog(),
		costlyReads(), exceededQuotas(),
		repointedDeliveries(), repointedThroughDialect(), strangersIDs(), revokedLongRequests(), erasedBytes(),
	}
}

func TestAttack(t *testing.T) {
	f := shortForm
	if *long {
		f = longForm
	}
	f.tries = cmp.Or(*tries, f.tries)
	var shared *fanfare
	if !*long {
		shared = start(t)
	}
	var results []result
	for _, a := range attacks() {
		if !strings.Contains(a.name, *only) {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			on := shared
			if on == nil {
				on = start(t)
			}
			results = append(results, run(t, on, f, a))
		})
	}
	report(results)
}

// result is a line of the table.
type result struct {
	name          string
	quiet, struck sample
	memory        int // MB
	failed        bool
}

func (r result) ratio() float64 { return float64(r.struck.p(99)) / float64(max(r.quiet.p(99), 1)) }

// run runs one attack and judges it.
func run(t *testing.T, on *fanfare, f form, a attack) (r result) {
	r.name = a.name
	defer func() { r.failed = t.Failed() }()
	s := newScene(t, on, f)
	url := s.fast(1)
	if a.victim != nil {
		url = a.victim(s)
	}
	v := s.newVictim(url)
	if a.ready != nil {
		a.ready(s)
	}
	resetPeak(on.pid)
	for try := 1; ; try++ {
		r.quiet = best(r.quiet, v.measure(f.quiet))
		profiled := on.profile(t, a.name, try)
		r.struck = best(r.struck, s.under(v, a.strike))
		profiled()
		r.memory = max(r.memory, peak(on.pid))
		if !r.slow(f) || try == f.tries || r.struck.lost+r.struck.refused > 0 || t.Failed() {
			break
		}
		t.Logf("try %d: the victim's p99 is %s under attack (%s until its POST was answered) and %s in peace: measure again",
			try, r.struck.p(99), percentile(r.struck.posted, 99), r.quiet.p(99))
	}
	if a.holds != nil {
		a.holds(s)
	}
	r.memory = max(r.memory, peak(on.pid))
	if r.slow(f) {
		t.Errorf("the victim's p99 is %s under attack (%s until its POST was answered) and %s in peace, more than %.0f times",
			r.struck.p(99), percentile(r.struck.posted, 99), r.quiet.p(99), f.factor)
	}
	if lost, refused := r.quiet.lost+r.struck.lost, r.quiet.refused+r.struck.refused; lost+refused > 0 {
		t.Errorf("%d events of the victim lost, %d refused (%s)", lost, refused, r.struck.why)
	}
	if r.memory > memoryMost {
		t.Errorf("the process took %d MB, want at most %d", r.memory, memoryMost)
	}
	return r
}

// best returns the quicker of two windows, with what either lost. A machine's other load slows some of them;
// and a quiet window after an attack is not quiet while the attack's backlog lasts.
func best(one, two sample) sample {
	if len(one.took) == 0 {
		return two
	}
	lost, refused, why := one.lost+two.lost, one.refused+two.refused, cmp.Or(two.why, one.why)
	if two.p(99) < one.p(99) {
		one = two
	}
	one.lost, one.refused, one.why = lost, refused, why
	return one
}

func (r result) slow(f form) bool {
	return float64(r.struck.p(99)) > f.factor*float64(max(r.quiet.p(99), f.floor))
}

func (r result) String() string {
	verdict := "holds"
	if r.failed {
		verdict = "FAILS"
	}
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%.1f\t%d\t%d\t%d MB\t%s", r.name, round(r.quiet.p(50)), round(r.quiet.p(99)),
		round(r.struck.p(50)), round(r.struck.p(99)), r.ratio(), r.struck.lost, r.struck.refused, r.memory, verdict)
}

// report prints the table.
func report(results []result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tQUIET P50\tQUIET P99\tATTACK P50\tATTACK P99\tRATIO\tLOST\tREFUSED\tMEMORY\tVERDICT")
	for _, r := range results {
		fmt.Fprintln(w, r)
	}
	_ = w.Flush() // Stdout is the test's.
}
