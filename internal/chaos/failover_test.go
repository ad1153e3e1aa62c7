package chaos_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// member is a Postgres that replicates or is replicated, listening on loopback.
type member struct {
	t    *testing.T
	dir  string
	port int
	as   *syscall.SysProcAttr
	cmd  *exec.Cmd
}

// program finds one of Postgres' programs.
func program(t *testing.T, name string) string {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 { // the pattern is well formed
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("Postgres' %s is needed: %v", name, err)
	}
	return path
}

// newMember makes a member with an empty directory. Postgres refuses to run as root.
func newMember(t *testing.T) *member {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &member{t: t, dir: filepath.Join(dir, "data"), as: &syscall.SysProcAttr{}}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatalf("a user to run Postgres as: %v", err)
		}
		uid, _ := strconv.Atoi(u.Uid) // numbers, on Linux
		gid, _ := strconv.Atoi(u.Gid)
		m.as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	_, port, err := net.SplitHostPort(servertest.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	m.port, _ = strconv.Atoi(port)
	return m
}

// run runs a program of Postgres to its end.
func (m *member) run(name string, args ...string) {
	m.t.Helper()
	cmd := exec.Command(program(m.t, name), args...)
	cmd.SysProcAttr, cmd.Dir = m.as, "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// start starts the server and returns once it takes connections.
func (m *member) start(settings ...string) {
	m.t.Helper()
	args := []string{"-D", m.dir, "-p", strconv.Itoa(m.port), "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "wal_level=replica",
		"-c", "max_connections=200", "-c", "hot_standby=on"}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	m.cmd = exec.Command(program(m.t, "postgres"), args...)
	m.cmd.SysProcAttr, m.cmd.Dir = m.as, "/"
	var out output
	m.cmd.Stdout, m.cmd.Stderr = &out, &out
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(m.kill)
	if !eventually(time.Minute, func() bool { return m.exec("SELECT 1") == nil }) {
		m.t.Fatalf("Postgres does not start:\n%s", out.tail())
	}
}

// kill ends it without a warning. Its sessions end with it.
func (m *member) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait() // Its end is all that counts.
}

func (m *member) exec(query string) error {
	connector, err := pq.NewConnector(fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable&connect_timeout=5", m.port))
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	_, err = db.Exec(query)
	return err
}

// TestFailover promotes a standby under load and never lets the former primary come back. With a synchronous standby nothing is
// lost; what an asynchronous one has not received yet, an audit with --repair finds and sends again. It belongs to `make chaos`.
func TestFailover(t *testing.T) {
	if *minutes == 0 {
		return
	}
	for _, mode := range []string{"synchronous", "asynchronous"} {
		t.Run(mode, func(t *testing.T) { failOver(t, mode == "synchronous") })
	}
}

func failOver(t *testing.T, synchronous bool) {
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	primary, standby := newMember(t), newMember(t)
	primary.run("initdb", "-D", primary.dir, "-U", "postgres", "--auth=trust", "--no-sync")
	primary.start()
	wire := newProxy(t, "tcp", fmt.Sprintf("127.0.0.1:%d", primary.port))
	_, port, err := net.SplitHostPort(wire.addr())
	if err != nil {
		t.Fatal(err)
	}
	standby.run("pg_basebackup", "-D", standby.dir, "-R", "-c", "fast", "-d", "host=127.0.0.1 port="+port+" user=postgres application_name=standby")
	standby.start()
	if synchronous {
		for _, query := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()"} {
			if err := primary.exec(query); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The address of the primary, as a load balancer gives it.
	front := newProxy(t, "tcp", fmt.Sprintf("127.0.0.1:%d", primary.port))
	database := "postgres://postgres@" + front.addr() + "/postgres?sslmode=disable"
	w := newWorldOn(t, path, counts{api: 1, ingest: 1, fanout: 1, deliver: 1}, newBroker(t), nil, "FANFARE_POSTGRES_URL="+database)
	w.database = database
	producers := w.populate(2, 20, *seed)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var publishing sync.WaitGroup
	for _, p := range producers {
		publishing.Go(func() { p.run(ctx, t.Context()) })
	}
	time.Sleep(5 * time.Second)
	f := fault{name: "promote the standby", injected: time.Now(), bound: time.Minute, mayDuplicate: true, worksInFlight: 2 * inHand}
	if !synchronous { // The standby falls behind.
		f.forgotten, f.worksInFlight = 5, 512
		wire.partition(true, true)
		time.Sleep(2 * time.Second)
	}
	primary.kill()
	wire.cut()
	promoted := eventually(time.Minute, func() bool {
		_ = standby.exec("SELECT pg_promote()") // That it is one already is an error too.
		return standby.exec("CREATE TEMPORARY TABLE writes (n int)") == nil
	})
	if !promoted {
		t.Fatal("the standby is not promoted")
	}
	front.move(fmt.Sprintf("127.0.0.1:%d", standby.port))
	f.healed = time.Now()
	if !synchronous {
		time.Sleep(5 * time.Second)
		stop()
		publishing.Wait()
		before, _ := w.rec.missing(false, time.Now())
		t.Logf("%d deliveries were not made when the standby was promoted; the audit:\n%s", before, w.audit(path))
	}
	if eventually(f.bound, func() bool { n, _ := w.rec.missing(true, f.healed); return n == 0 }) {
		f.recovered = time.Now()
	}
	t.Logf("resumed after %.1fs", f.recovered.Sub(f.healed).Seconds())
	w.rec.do(func(h *history) { h.faults = append(h.faults, f) })
	stop()
	publishing.Wait()
	if !w.settled(2 * time.Minute) {
		n, one := w.rec.missing(false, time.Now())
		t.Errorf("%d deliveries have not arrived, such as %s", n, one)
	}
	report(t, w.collect())
}

// audit runs `fanfare audit --repair` and returns what it printed.
func (w *world) audit(path string) string {
	w.t.Helper()
	p := &process{t: w.t, path: path, env: append(w.env(w.t, w.nats.url(), w.database), "FANFARE_LOG_LEVEL=warn")}
	cmd := command(p.path, append(cleanEnv(), p.env...), "audit", "--repair")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Errorf("audit --repair: %v", err)
	}
	return string(out)
}
