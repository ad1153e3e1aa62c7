package chaos_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// previous is the build that an upgrade starts from.
const previous = "07a4386"

// previousBinary builds it from the repository's history, once for this machine.
func previousBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(cache(), "fanfare-"+previous)
	if exec.Command(path, "version").Run() == nil {
		return path
	}
	dir := t.TempDir()
	script := "git -C ../.. archive " + previous + " | tar x -C " + dir + " && cd " + dir + " && go build -o " + path + " ./cmd/fanfare"
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("build %s from the history: %v\n%s", previous, err, out)
	}
	return path
}

// TestUpgrade rolls from the previous build to this one under load, role by role in the order of the changelog, on one database
// and one broker. There is no way back to that build: see docs/reliability.md. It belongs to `make chaos`.
func TestUpgrade(t *testing.T) {
	if *minutes == 0 {
		return
	}
	from := previousBinary(t)
	to, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	w := newWorldOf(t, from, counts{api: 1, ingest: 1, fanout: 1, deliver: 1})
	producers := w.populate(2, 10, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var publishing sync.WaitGroup
	for _, p := range producers {
		publishing.Go(func() { p.run(ctx, t.Context()) })
	}
	roll := func(path string, roles ...string) {
		for _, role := range roles {
			old := w.of(role)[0]
			time.Sleep(2 * time.Second) // Both versions side by side, and one role of each.
			fresh := w.restartAs(old, path)
			fresh.await()
		}
	}
	f := fault{name: "roll to this build", injected: time.Now(), bound: time.Minute}
	topology := &process{t: t, name: "topology", role: "topology", path: to, env: w.env(t, w.nats.url(), w.pg.URL())}
	topology.apply()
	roll(to, "deliver", "fanout", "ingest", "api")
	f.healed = time.Now()
	if eventually(f.bound, func() bool { n, _ := w.rec.missing(true, f.healed); return n == 0 }) {
		f.recovered = time.Now()
	}
	stop()
	publishing.Wait()
	if !w.settled(3 * time.Minute) {
		n, one := w.rec.missing(false, time.Now())
		t.Errorf("%d deliveries have not arrived, such as %s", n, one)
	}
	w.rec.do(func(h *history) { h.faults = append(h.faults, f) })
	report(t, w.collect())
}

// restartAs ends a process in the orderly way and starts another build at its addresses.
func (w *world) restartAs(p *process, path string) *process {
	p.term()
	p.path = path
	p.start()
	return p
}
