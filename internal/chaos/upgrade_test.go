package chaos_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// previous is the build that an upgrade starts from. There is no way back to it: see docs/reliability.md.
	previous = "07a4386"
	// later is a later build, of another schema, whose new streams have another form. There is a way back to it.
	later = "d4d8d5c"
)

// buildOf builds a commit of the repository's history, once for this machine.
func buildOf(t *testing.T, commit string) string {
	t.Helper()
	path := filepath.Join(cache(), "fanfare-"+commit)
	if exec.Command(path, "version").Run() == nil {
		return path
	}
	dir := t.TempDir()
	script := "git -C ../.. archive " + commit + " | tar x -C " + dir + " && cd " + dir + " && go build -o " + path + " ./cmd/fanfare"
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("build %s from the history: %v\n%s", commit, err, out)
	}
	return path
}

// TestUpgrade rolls from earlier builds to this one under load, role by role in the order of the changelog, on one database and one
// broker; and back, where there is a way back. It belongs to `make chaos`.
func TestUpgrade(t *testing.T) {
	if *minutes == 0 {
		return
	}
	to, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	for _, commit := range []string{previous, later} {
		t.Run(commit, func(t *testing.T) {
			from := buildOf(t, commit)
			d := &loaded{w: newWorldOf(t, from, counts{api: 1, ingest: 1, fanout: 1, deliver: 1})}
			d.load(t, 10)
			topology := &process{t: t, name: "topology", role: "topology", path: to, env: d.w.env(t, d.w.nats.url(), d.w.pg.URL())}
			topology.apply()
			d.roll("roll to this build", to, "deliver", "fanout", "ingest", "api")
			if commit == later {
				d.roll("roll back", from, "api", "ingest", "fanout", "deliver")
			} else {
				d.refused(t, from)
			}
			d.end(t)
		})
	}
}

// TestDowngrade goes back to a build whose streams have another form, on streams that this build made. That build refuses them, and
// works once they are deleted while they are empty. It belongs to `make chaos`.
func TestDowngrade(t *testing.T) {
	if *minutes == 0 {
		return
	}
	from := buildOf(t, later)
	d := &loaded{w: newWorld(t, counts{api: 1, ingest: 1, fanout: 1, deliver: 1})}
	d.load(t, 10)
	time.Sleep(3 * time.Second)
	d.refused(t, from)
	f := fault{name: "go back", injected: time.Now(), bound: 2 * time.Minute}
	d.w.quit("api", "ingest")
	if !d.w.settled(3 * time.Minute) {
		t.Error("not all has ended without the roles that accept events")
	}
	d.w.quit("fanout", "deliver")
	removeStreams(t, d.w.nats.url(), "TASKS", "BACKLOG", "ATTEMPTS")
	topology := &process{t: t, name: "topology", role: "topology", path: from, env: d.w.env(t, d.w.nats.url(), d.w.pg.URL())}
	topology.apply()
	for _, p := range d.w.processes {
		p.path = from
		p.start()
	}
	d.heal(&f)
	d.end(t)
}

// quit ends all processes of some roles in the orderly way.
func (w *world) quit(roles ...string) {
	for _, role := range roles {
		for _, p := range w.of(role) {
			p.term()
		}
	}
}

func removeStreams(t *testing.T, url string, names ...string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatalf("delete stream %s: %v", name, err)
		}
	}
}

// roll replaces one process after the other by another build.
func (d *loaded) roll(name, path string, roles ...string) {
	f := fault{name: name, injected: time.Now(), bound: time.Minute}
	for _, role := range roles {
		time.Sleep(2 * time.Second) // Both versions side by side, and one role of each.
		d.w.restartAs(d.w.of(role)[0], path).await()
	}
	d.heal(&f)
}

// refused starts processes of a build that knows nothing of the streams that there are now: they end and say why.
func (d *loaded) refused(t *testing.T, path string) {
	t.Helper()
	whole := len(d.w.processes)
	for i, role := range []string{"fanout", "deliver"} {
		p := d.w.add(path, role, whole+i)
		if !eventually(time.Minute, func() bool { return !p.alive() }) || !strings.Contains(p.out.String(), "fanfare topology apply") {
			t.Errorf("%s of the earlier build is %+v; it printed:\n%s", role, p.readiness(), p.out.tail())
		}
		p.kill()
		lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
		t.Logf("%s of the earlier build: %s", role, lines[len(lines)-1])
	}
	d.w.processes = d.w.processes[:whole]
}

// restartAs ends a process in the orderly way and starts another build at its addresses.
func (w *world) restartAs(p *process, path string) *process {
	p.term()
	p.path = path
	p.start()
	return p
}
