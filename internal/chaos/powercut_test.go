package chaos_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// What was synced survives a cut of the power, and nothing else does.
func checkDisk(t *testing.T) {
	t.Helper()
	d := newDisk(t)
	path := filepath.Join(d.path, "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { _, err := f.WriteString("synced."); return err },
		f.Sync,
		func() error { _, err := f.WriteString("lost"); return err },
		func() error { _, err := f.WriteAt([]byte("X"), 0); return err },
		f.Close,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if lost := d.cut(t); lost != len("lost")+len("X") {
		t.Errorf("%d bytes were lost, want 5", lost)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "synced." {
		t.Errorf("after the cut the file holds %q, %v", got, err)
	}
}

// loaded is an installation under load.
type loaded struct {
	w          *world
	js, pg     *disk // of NATS and of Postgres, if they have disks of their own
	stop       context.CancelFunc
	publishing sync.WaitGroup
}

// onDisks starts one with disks, so many workers and so many events a second.
func onDisks(t *testing.T, workers int, rate float64) *loaded {
	t.Helper()
	checkDisk(t)
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	d := &loaded{js: newDisk(t), pg: newDisk(t)}
	b := brokerIn(t, "n0", servertest.FreeAddress(t), d.js.path, "")
	b.start()
	d.w = newWorldOn(t, path, counts{api: 1, ingest: 1, fanout: 1, deliver: workers}, b,
		servertest.NewRestartablePostgresOf(t, embedded.PostgresConfig{Dir: d.pg.path}))
	d.js.settle() // NATS syncs the definitions of streams that it does not sync as little as their messages.
	d.load(t, rate)
	return d
}

// load publishes so many events a second for each of two tenants.
func (d *loaded) load(t *testing.T, rate float64) {
	t.Helper()
	producers := d.w.populate(2, rate, *seed)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	d.stop = stop
	for _, p := range producers {
		d.publishing.Go(func() { p.run(ctx, t.Context()) })
	}
}

// heal notes that a fault is over, waits until all works again, and records the fault.
func (d *loaded) heal(f *fault) {
	f.healed = time.Now()
	if eventually(f.bound, func() bool { n, _ := d.w.rec.missing(true, f.healed); return n == 0 && d.w.allReady() }) {
		f.recovered = time.Now()
	}
	d.w.rec.do(func(h *history) { h.faults = append(h.faults, *f) })
}

// end stops the load and checks what became of it.
func (d *loaded) end(t *testing.T) {
	t.Helper()
	d.stop()
	d.publishing.Wait()
	if !d.w.settled(3 * time.Minute) {
		n, one := d.w.rec.missing(false, time.Now())
		t.Errorf("%d deliveries have not arrived, such as %s", n, one)
	}
	report(t, d.w.collect())
}

// TestPowerCut cuts the power of NATS and Postgres at once, several times under load: nothing that was accepted is lost. The
// worker is killed shortly before each second cut, so that tasks of events that fan-out has acknowledged are in TASKS alone,
// which is not synced. It belongs to `make chaos`, and needs root.
func TestPowerCut(t *testing.T) {
	if *minutes == 0 {
		return
	}
	d := onDisks(t, 1, 10)
	for round := range 5 {
		time.Sleep(time.Duration(2+round) * time.Second)
		f := fault{name: "power cut", injected: time.Now(), bound: time.Minute, mayDuplicate: true, worksInFlight: inHand}
		worker := d.w.of("deliver")[0]
		if round%2 == 1 {
			worker.kill()
			time.Sleep(2 * time.Second)
		}
		d.w.nats.kill()
		d.w.pg.Kill()
		lostJS, lostPG := d.js.cut(t), d.pg.cut(t)
		d.w.pg.Start()
		d.w.nats.start()
		if !worker.alive() {
			worker.start()
		}
		d.heal(&f)
		mended := d.w.of("fanout")[0].metric(`fanfare_audit_mended_total\{kind="delivery_missing"\}`)
		t.Logf("cut %d: %d bytes of NATS and %d of Postgres were lost; resumed after %.1fs, %.0f gaps mended so far",
			round+1, lostJS, lostPG, f.recovered.Sub(f.healed).Seconds(), mended)
		if round == 1 && mended == 0 {
			t.Error("no task was lost, though there was no worker")
		}
	}
	d.end(t)
}

// TestSlow has every sync of both disks take 200 ms, and then every read of a connection to NATS and Postgres 250 ms, with what
// comes cut into pieces: all is delivered, and nothing twice. It belongs to `make chaos`, and needs root.
func TestSlow(t *testing.T) {
	if *minutes == 0 {
		return
	}
	d := onDisks(t, 2, 5)
	for _, slow := range []struct {
		name string
		set  func(d time.Duration)
		by   time.Duration
	}{
		{"slow disks", func(by time.Duration) { d.js.delay.Store(int64(by)); d.pg.delay.Store(int64(by)) }, 200 * time.Millisecond},
		{"slow connections", func(by time.Duration) {
			for _, p := range d.w.processes {
				p.nats.latency.Store(int64(by))
				p.pg.latency.Store(int64(by))
			}
		}, 250 * time.Millisecond},
	} {
		f := fault{name: slow.name, injected: time.Now(), bound: time.Minute}
		slow.set(slow.by)
		time.Sleep(20 * time.Second)
		slow.set(0)
		d.heal(&f)
		t.Logf("%s: resumed after %.1fs", f.name, f.recovered.Sub(f.healed).Seconds())
	}
	d.end(t)
}
