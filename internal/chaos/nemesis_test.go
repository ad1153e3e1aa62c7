package chaos_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"
)

// step is one entry of the nemesis' plan: it breaks something, waits, heals it and waits for the recovery.
type step struct {
	breaks  string
	target  int // of the processes that it may hit
	lasts   time.Duration
	reverse bool // the other direction or order
}

func (s step) String() string {
	return fmt.Sprintf("%s %d for %v reverse=%v", s.breaks, s.target, s.lasts, s.reverse)
}

// breakage is a way to break something.
type breakage struct {
	name string
	// workers is how many workers repeat deliveries, and each how many: those in hand, whose outcomes are not on disk. A fan-out
	// that is not told that its tasks are on disk hands them over again: the requests in flight at all workers may then be repeated.
	workers, each int
	longest       time.Duration
	// inflict breaks it and returns what heals it.
	inflict func(w *world, s step) (heal func())
}

// breakages are all ways. The plan takes each before any is repeated.
var breakages = []breakage{
	{"kill deliver", 1, inHand, 8 * time.Second, func(w *world, s step) func() { return killing(pick(w, s, "deliver")) }},
	{"kill all of deliver", 9, inHand, 3 * time.Second, func(w *world, _ step) func() { return killing(w.of("deliver")...) }},
	{"kill fanout", 9, inFlight, 8 * time.Second, func(w *world, s step) func() { return killing(pick(w, s, "fanout")) }},
	{"kill api", 0, 0, 3 * time.Second, func(w *world, s step) func() { return killing(pick(w, s, "api")) }},
	{"kill ingest", 0, 0, 3 * time.Second, func(w *world, s step) func() { return killing(pick(w, s, "ingest")) }},
	{"kill everything", 9, inHand, 3 * time.Second, killEverything},
	{"terminate deliver", 0, 0, 5 * time.Second, func(w *world, s step) func() { return ending(pick(w, s, "deliver")) }},
	{"terminate fanout", 0, 0, 5 * time.Second, func(w *world, s step) func() { return ending(pick(w, s, "fanout")) }},
	{"stop deliver", 1, inHand, 40 * time.Second, func(w *world, s step) func() { return stopping(pick(w, s, "deliver")) }},
	{"stop fanout", 9, inFlight, 40 * time.Second, func(w *world, s step) func() { return stopping(pick(w, s, "fanout")) }},
	{"stop ingest", 0, 0, 20 * time.Second, func(w *world, s step) func() { return stopping(pick(w, s, "ingest")) }},
	{"kill NATS", 9, inHand, 10 * time.Second, func(w *world, _ step) func() { w.nats.kill(); return w.nats.start }},
	{"restart NATS", 9, inHand, 3 * time.Second, func(w *world, _ step) func() { w.nats.stop(); return w.nats.start }},
	{"stop NATS", 9, inHand, 30 * time.Second, func(w *world, _ step) func() { w.nats.freeze(); return w.nats.thaw }},
	{"kill Postgres", 0, 0, 10 * time.Second, func(w *world, _ step) func() { w.pg.Kill(); return w.pg.Start }},
	{"restart Postgres", 0, 0, 3 * time.Second, func(w *world, _ step) func() { w.pg.Stop(); return w.pg.Start }},
	{"stop Postgres", 0, 0, 30 * time.Second, func(w *world, _ step) func() { w.pg.Freeze(); return w.pg.Thaw }},
	{"kill both servers", 9, inHand, 10 * time.Second, killBoth},
	{"read-only Postgres", 0, 0, 15 * time.Second, readOnly},
	{"end all sessions of Postgres", 0, 0, 5 * time.Second, endSessions},
	{"lock the ledger", 0, 0, 15 * time.Second, lockLedger},
	{"partition deliver from NATS", 1, inHand, 40 * time.Second, func(w *world, s step) func() { return partition(pick(w, s, "deliver").nats, s) }},
	{"partition deliver from Postgres", 0, 0, 40 * time.Second, func(w *world, s step) func() { return partition(pick(w, s, "deliver").pg, s) }},
	{"partition fanout from NATS", 9, inFlight, 40 * time.Second, func(w *world, s step) func() { return partition(pick(w, s, "fanout").nats, s) }},
	{"partition fanout from Postgres", 0, 0, 40 * time.Second, func(w *world, s step) func() { return partition(pick(w, s, "fanout").pg, s) }},
	{"partition ingest from NATS", 0, 0, 20 * time.Second, func(w *world, s step) func() { return partition(pick(w, s, "ingest").nats, s) }},
	{"half partition of deliver from NATS", 1, inHand, 40 * time.Second, func(w *world, s step) func() { return halve(pick(w, s, "deliver").nats, s) }},
	{"half partition of fanout from NATS", 9, inFlight, 40 * time.Second, func(w *world, s step) func() { return halve(pick(w, s, "fanout").nats, s) }},
	{"no more files for deliver", 1, inHand, 20 * time.Second, func(w *world, s step) func() { return withoutFiles(pick(w, s, "deliver")) }},
	{"no more files for ingest", 0, 0, 20 * time.Second, func(w *world, s step) func() { return withoutFiles(pick(w, s, "ingest")) }},
	{"reset connections of deliver", 1, inHand, 5 * time.Second, func(w *world, s step) func() { return cutting(pick(w, s, "deliver")) }},
	{"reset connections of fanout", 9, inFlight, 5 * time.Second, func(w *world, s step) func() { return cutting(pick(w, s, "fanout")) }},
}

// plan follows from the seed alone. It is longer than any run needs.
func plan(seed uint64, length int) (steps []step) {
	random := rand.New(rand.NewPCG(seed, 0xc4a05))
	for len(steps) < length {
		for _, i := range random.Perm(len(breakages)) {
			b := breakages[i]
			if *only != "" && b.name != *only {
				continue
			}
			steps = append(steps, step{
				breaks: b.name, target: random.IntN(1 << 10), reverse: random.IntN(2) == 0,
				lasts: time.Second + time.Duration(random.Int64N(int64(b.longest))).Round(100*time.Millisecond),
			})
		}
	}
	return steps[:length]
}

// by finds a breakage.
func by(name string) breakage {
	for _, b := range breakages {
		if b.name == name {
			return b
		}
	}
	panic("no breakage is named " + name)
}

// strike takes one step and returns when service has resumed or its bound is over.
func (w *world) strike(s step, bound time.Duration) fault {
	b := by(s.breaks)
	workers := min(b.workers, len(w.of("deliver")))
	f := fault{name: s.breaks, bound: bound, mayDuplicate: workers > 0, worksInFlight: workers * b.each, injected: time.Now()}
	heal := b.inflict(w, s)
	time.Sleep(s.lasts)
	w.measure("during")
	heal()
	f.healed = time.Now()
	if eventually(2*bound, func() bool { n, _ := w.rec.missing(true, f.healed); return n == 0 && w.allReady() }) {
		f.recovered = time.Now()
	} else {
		n, one := w.rec.missing(true, f.healed)
		w.t.Logf("%d deliveries are missing after %s, such as %s", n, s, one)
		for _, p := range w.processes {
			w.t.Logf("%s %+v", p.name, p.readiness())
		}
	}
	w.rec.do(func(h *history) { h.faults = append(h.faults, f) })
	return f
}

func (w *world) allReady() bool {
	for _, p := range w.processes {
		if !p.ready() {
			return false
		}
	}
	return true
}

func pick(w *world, s step, role string) *process {
	all := w.of(role)
	return all[s.target%len(all)]
}

func killing(all ...*process) func() {
	for _, p := range all {
		p.kill()
	}
	return func() {
		for _, p := range all {
			p.start()
		}
	}
}

func ending(p *process) func() {
	p.term()
	return func() { p.start() }
}

func stopping(p *process) func() {
	p.signal(syscall.SIGSTOP)
	return func() { p.signal(syscall.SIGCONT) }
}

// inOrder calls both, in an order by the step.
func inOrder(s step, one, other func()) {
	if s.reverse {
		one, other = other, one
	}
	one()
	time.Sleep(s.lasts / 2)
	other()
}

func killBoth(w *world, s step) func() {
	w.nats.kill()
	w.pg.Kill()
	return func() { inOrder(s, w.nats.start, w.pg.Start) }
}

// killEverything kills all processes and servers at once, as far as one can.
func killEverything(w *world, s step) func() {
	restart := killing(w.processes...)
	start := killBoth(w, s)
	return func() {
		restart() // Before what they need.
		start()
	}
}

func partition(p *proxy, _ step) func() {
	p.partition(true, true)
	return p.heal
}

func halve(p *proxy, s step) func() {
	p.partition(s.reverse, !s.reverse)
	return p.heal
}

// withoutFiles lets a process open no file or connection more, and cuts those that it has to NATS and Postgres.
func withoutFiles(p *process) func() {
	before := p.limitFiles(3)
	cutting(p)
	return func() { p.limitFiles(before) }
}

func cutting(p *process) func() {
	p.nats.cut()
	p.pg.cut()
	return func() {}
}

// endQuery ends the sessions of all but ourselves.
const endQuery = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"

func (w *world) exec(queries ...string) {
	w.t.Helper()
	db := w.open()
	defer db.Close()
	for _, q := range queries {
		if _, err := db.Exec(q); err != nil {
			w.t.Errorf("%s: %v", q, err)
		}
	}
}

// readOnly makes Postgres refuse writes, as a standby does.
func readOnly(w *world, _ step) func() {
	w.exec("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()", endQuery)
	return func() {
		w.exec("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()", endQuery)
	}
}

func endSessions(w *world, s step) func() {
	for range 5 {
		w.exec(endQuery)
		time.Sleep(s.lasts / 10)
	}
	return func() {}
}

// lockLedger locks the tables as a careless migration does.
func lockLedger(w *world, _ step) func() {
	db := w.open()
	var tx *sql.Tx
	var err error
	locked := eventually(30*time.Second, func() bool { // A deadlock with those that write at that moment ends one of both.
		if tx, err = db.Begin(); err == nil {
			if _, err = tx.Exec("LOCK TABLE deliveries, deferrals IN ACCESS EXCLUSIVE MODE"); err != nil {
				_ = tx.Rollback() // It failed.
			}
		}
		return err == nil
	})
	if !locked {
		w.t.Errorf("lock the ledger: %v", err)
	}
	return func() {
		_ = tx.Rollback() // The session may have been ended.
		_ = db.Close()
	}
}

// describe prints a plan.
func describe(steps []step) string {
	var text strings.Builder
	for i, s := range steps {
		fmt.Fprintf(&text, "%3d  %-40s target %4d  %8v  reverse %v\n", i+1, s.breaks, s.target, s.lasts, s.reverse)
	}
	return text.String()
}
