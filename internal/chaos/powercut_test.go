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

// TestPowerCut cuts the power of NATS and Postgres at once, several times under load: nothing that was accepted is lost. It
// belongs to `make chaos`, and needs root.
func TestPowerCut(t *testing.T) {
	if *minutes == 0 {
		return
	}
	checkDisk(t)
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	js, pg := newDisk(t), newDisk(t)
	b := brokerIn(t, "n0", freeAddress(t), js.path, "")
	b.start()
	w := newWorldOn(t, path, counts{api: 1, ingest: 1, fanout: 1, deliver: 1}, b,
		servertest.NewRestartablePostgresOf(t, embedded.PostgresConfig{Dir: pg.path}))
	producers := w.populate(2, 10, *seed)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var publishing sync.WaitGroup
	for _, p := range producers {
		publishing.Go(func() { p.run(ctx, t.Context()) })
	}
	for round := range 5 {
		time.Sleep(time.Duration(2+round) * time.Second)
		f := fault{name: "power cut", injected: time.Now(), bound: time.Minute, mayDuplicate: true, worksInFlight: inHand}
		w.nats.kill()
		w.pg.Kill()
		lostJS, lostPG := js.cut(t), pg.cut(t)
		w.pg.Start()
		w.nats.start()
		f.healed = time.Now()
		if eventually(f.bound, func() bool { n, _ := w.rec.missing(true, f.healed); return n == 0 && w.allReady() }) {
			f.recovered = time.Now()
		}
		t.Logf("cut %d: %d bytes of NATS and %d of Postgres were lost; resumed after %.1fs", round+1, lostJS, lostPG, f.recovered.Sub(f.healed).Seconds())
		w.rec.do(func(h *history) { h.faults = append(h.faults, f) })
	}
	stop()
	publishing.Wait()
	if !w.settled(3 * time.Minute) {
		n, one := w.rec.missing(false, time.Now())
		t.Errorf("%d deliveries have not arrived, such as %s", n, one)
	}
	report(t, w.collect())
}

// TestSlow has every sync of both disks take 200 ms, and then every read of a connection to NATS and Postgres 250 ms, with what
// comes cut into pieces: all is delivered, and nothing twice. It belongs to `make chaos`, and needs root.
func TestSlow(t *testing.T) {
	if *minutes == 0 {
		return
	}
	checkDisk(t)
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	js, pg := newDisk(t), newDisk(t)
	b := brokerIn(t, "n0", freeAddress(t), js.path, "")
	b.start()
	w := newWorldOn(t, path, counts{api: 1, ingest: 1, fanout: 1, deliver: 2}, b,
		servertest.NewRestartablePostgresOf(t, embedded.PostgresConfig{Dir: pg.path}))
	producers := w.populate(2, 5, *seed)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var publishing sync.WaitGroup
	for _, p := range producers {
		publishing.Go(func() { p.run(ctx, t.Context()) })
	}
	for _, slow := range []struct {
		name string
		set  func(d time.Duration)
		by   time.Duration
	}{
		{"slow disks", func(d time.Duration) { js.delay.Store(int64(d)); pg.delay.Store(int64(d)) }, 200 * time.Millisecond},
		{"slow connections", func(d time.Duration) {
			for _, p := range w.processes {
				p.nats.latency.Store(int64(d))
				p.pg.latency.Store(int64(d))
			}
		}, 250 * time.Millisecond},
	} {
		f := fault{name: slow.name, injected: time.Now(), bound: time.Minute}
		slow.set(slow.by)
		time.Sleep(20 * time.Second)
		slow.set(0)
		f.healed = time.Now()
		if eventually(f.bound, func() bool { n, _ := w.rec.missing(true, f.healed); return n == 0 && w.allReady() }) {
			f.recovered = time.Now()
		}
		t.Logf("%s: resumed after %.1fs", f.name, f.recovered.Sub(f.healed).Seconds())
		w.rec.do(func(h *history) { h.faults = append(h.faults, f) })
	}
	stop()
	publishing.Wait()
	if !w.settled(3 * time.Minute) {
		n, one := w.rec.missing(false, time.Now())
		t.Errorf("%d deliveries have not arrived, such as %s", n, one)
	}
	report(t, w.collect())
}
