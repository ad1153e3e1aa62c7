package chaos_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// TestCluster kills the leader of the events' stream again and again on three servers with three copies of each stream, one
// server that loses its disk included: nothing that was accepted is lost, whether the servers sync every write or, as copies of the
// streams make it safe, leave that for later. It belongs to `make chaos`.
func TestCluster(t *testing.T) {
	if *minutes == 0 {
		return
	}
	for name, syncing := range map[string]string{"synced": synced, "unsynced": unsynced} {
		t.Run(name, func(t *testing.T) {
			strikeCluster(t, syncing, "kill the leader", "kill the leader", "kill the leader", "lose the leader's disk", "kill the leader", "kill the leader")
		})
	}
}

// TestMinority cuts one of three servers off from the others and from all clients: first the leader of the events' stream, then
// one that follows. It belongs to `make chaos`.
func TestMinority(t *testing.T) {
	if *minutes > 0 {
		strikeCluster(t, unsynced, "partition the leader", "partition a follower")
	}
}

// strikeCluster strikes three servers under load, and has the history judged.
func strikeCluster(t *testing.T, syncing string, strikes ...string) {
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	r := cluster(t, 3, syncing)
	for _, b := range r.servers {
		b.start()
	}
	t.Cleanup(func() {
		for _, b := range r.servers {
			if t.Failed() {
				t.Logf("%s printed, at the end:\n%s", b.name, b.out.tail())
			}
		}
	})
	nc, err := nats.Connect(r.urls(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.PingInterval(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if !eventually(time.Minute, func() bool { _, err := js.AccountInfo(t.Context()); return err == nil }) {
		t.Fatal("the cluster has no leader")
	}
	w := newWorldOn(t, path, counts{api: 1, ingest: 1, fanout: 2, deliver: 2}, r.servers[0], servertest.NewRestartablePostgres(t),
		"FANFARE_NATS_URL="+r.urls(), "FANFARE_STREAM_REPLICAS=3")
	producers := w.populate(2, 10, *seed)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var publishing sync.WaitGroup
	for _, p := range producers {
		publishing.Go(func() { p.run(ctx, t.Context()) })
	}
	for i, name := range strikes {
		time.Sleep(5 * time.Second)
		// Processes notice after 30 s that a server is silent.
		f := fault{name: name, bound: 90 * time.Second, mayDuplicate: true, worksInFlight: 2 * inHand, injected: time.Now()}
		heal := r.strike(name, leader(t, js, r.servers))
		// With one server away the others go on.
		if !eventually(f.bound, func() bool { n, _ := w.rec.missing(true, f.injected); return n == 0 && w.allReady() }) {
			n, one := w.rec.missing(true, f.injected)
			t.Errorf("two servers of three do not go on: %d deliveries have not arrived, such as %s", n, one)
			for _, p := range w.processes {
				t.Logf("%s %+v", p.name, p.readiness())
			}
		}
		f.healed, f.recovered = f.injected, time.Now()
		heal()
		t.Logf("%d: %s: resumed after %.1fs", i+1, f.name, f.recovered.Sub(f.injected).Seconds())
		w.rec.do(func(h *history) { h.faults = append(h.faults, f) })
		if !eventually(2*time.Minute, func() bool { return current(t, js) }) {
			t.Error("the server that came back does not catch up")
		}
	}
	stop()
	publishing.Wait()
	if !w.settled(3 * time.Minute) {
		n, one := w.rec.missing(false, time.Now())
		t.Errorf("%d deliveries have not arrived, such as %s", n, one)
	}
	report(t, w.collect())
}

// strike strikes the leader of the events' stream, or another server, and returns what heals it.
func (r *ring) strike(name string, leader *broker) (heal func()) {
	switch name {
	case "partition the leader":
		return r.isolate(leader)
	case "partition a follower":
		return r.isolate(r.servers[(slices.Index(r.servers, leader)+1)%len(r.servers)])
	}
	leader.kill()
	if name == "lose the leader's disk" {
		leader.wipe()
	}
	return leader.start
}

// leader is the server that leads the stream of events.
func leader(t *testing.T, js natsjs.JetStream, servers []*broker) *broker {
	t.Helper()
	name := ""
	eventually(time.Minute, func() bool {
		s, err := js.Stream(t.Context(), "EVENTS")
		if err == nil && s.CachedInfo().Cluster != nil {
			name = s.CachedInfo().Cluster.Leader
		}
		return name != ""
	})
	for _, b := range servers {
		if b.name == name {
			return b
		}
	}
	t.Fatalf("no server is named %q", name)
	return nil
}

// current reports whether all copies of all streams are there and caught up.
func current(t *testing.T, js natsjs.JetStream) bool {
	t.Helper()
	for _, name := range []string{"EVENTS", "TASKS", "BACKLOG", "ATTEMPTS"} {
		s, err := js.Stream(t.Context(), name)
		if err != nil || s.CachedInfo().Cluster == nil || len(s.CachedInfo().Cluster.Replicas) != 2 {
			return false
		}
		for _, r := range s.CachedInfo().Cluster.Replicas {
			if !r.Current || r.Offline {
				return false
			}
		}
	}
	return true
}
