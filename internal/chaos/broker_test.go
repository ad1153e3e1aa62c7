package chaos_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// natsServer builds nats-server, of the version that Fanfare embeds.
var natsServer = sync.OnceValues(func() (string, error) {
	path := filepath.Join(cache(), "nats-server")
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	if out, err := exec.Command("go", "build", "-o", made, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, os.Rename(made, path)
})

// natsPassword is hexadecimal, as URLs want it.
const natsPassword = "c4a05c4a05c4a05c4a05c4a05c4a05c4"

// broker is a nats-server in a process of its own, configured as the handbook says.
type broker struct {
	t    testing.TB
	name string
	addr string
	dir  string // of its streams
	path string // of its configuration
	exe  string // its program; empty: that of natsServer
	out  output

	cmd  *exec.Cmd
	done chan struct{}
}

// synced has a server sync every write before it acknowledges it, and unsynced every two minutes, as NATS does by default.
const (
	synced   = "always"
	unsynced = "2m"
)

// brokerConfig is what the handbook asks for. Fanfare's account may ask whether every write is synced.
func brokerConfig(name, addr, dir, syncing, more string) string {
	return fmt.Sprintf(`server_name: %s
listen: "%s"
max_payload: 1MB
jetstream { store_dir: "%s", sync_interval: %s, max_file_store: 4GB }
system_account: SYS
accounts {
  SYS { exports: [{service: "$SYS.REQ.SERVER.PING.JSZ"}] }
  FANFARE {
    jetstream: enabled, users: [{user: fanfare, password: "%s"}]
    imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ"}}]
  }
}
%s
`, name, addr, dir, syncing, natsPassword, more)
}

// newBroker starts a server. It ends with the test.
func newBroker(t testing.TB) *broker {
	t.Helper()
	b := makeBroker(t, "n0", servertest.FreeAddress(t), "")
	b.start()
	return b
}

// makeBroker configures a server; more is added to its configuration.
func makeBroker(t testing.TB, name, addr, more string) *broker {
	t.Helper()
	return brokerIn(t, name, addr, t.TempDir(), more)
}

// brokerIn is makeBroker with a directory for the streams.
func brokerIn(t testing.TB, name, addr, dir, more string) *broker {
	t.Helper()
	b := &broker{t: t, name: name, addr: addr, dir: filepath.Join(dir, "js"), path: filepath.Join(t.TempDir(), "nats.conf")}
	b.configure(synced, more)
	t.Cleanup(b.kill)
	return b
}

// configure writes the configuration of a server that does not run.
func (b *broker) configure(syncing, more string) {
	b.t.Helper()
	if err := os.WriteFile(b.path, []byte(brokerConfig(b.name, b.addr, b.dir, syncing, more)), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// start starts the server and returns once it takes connections.
func (b *broker) start() {
	b.t.Helper()
	exe, err := b.exe, error(nil)
	if exe == "" {
		exe, err = natsServer()
	}
	if err != nil {
		b.t.Fatalf("build nats-server: %v", err)
	}
	b.cmd, b.done = exec.Command(exe, "-c", b.path), make(chan struct{})
	b.cmd.Stdout, b.cmd.Stderr = &b.out, &b.out
	if err := b.cmd.Start(); err != nil {
		b.t.Fatalf("start nats-server: %v", err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // How it ended does not matter.
		close(done)
	}(b.cmd, b.done)
	listens := eventually(time.Minute, func() bool {
		c, err := net.Dial("tcp", b.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	if !listens {
		b.t.Fatalf("nats-server does not listen; it printed:\n%s", b.out.tail())
	}
}

func (b *broker) url() string { return "nats://fanfare:" + natsPassword + "@" + b.addr }

// kill ends it without a warning.
func (b *broker) kill() { b.end(syscall.SIGKILL) }

// stop ends it in the orderly way.
func (b *broker) stop() { b.end(syscall.SIGTERM) }

func (b *broker) end(s syscall.Signal) {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(s) // It may have ended.
	<-b.done
	b.cmd = nil
}

// wipe loses the disk of a server that does not run.
func (b *broker) wipe() {
	b.t.Helper()
	if err := os.RemoveAll(b.dir); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) freeze() { _ = b.cmd.Process.Signal(syscall.SIGSTOP) }
func (b *broker) thaw()   { _ = b.cmd.Process.Signal(syscall.SIGCONT) }

// ring is a cluster of servers. Their routes to each other, and the way of clients to each, go through proxies.
type ring struct {
	servers []*broker
	routes  [][]*proxy // from one to the other; nil to itself
	doors   []*proxy   // of clients
}

// cluster makes servers that form a cluster, synced or unsynced; none runs yet.
func cluster(t testing.TB, n int, syncing string) *ring {
	t.Helper()
	r := &ring{}
	listen := make([]string, n)
	for i := range listen {
		listen[i] = servertest.FreeAddress(t)
	}
	for i := range n {
		ways, urls := make([]*proxy, n), []string(nil)
		for j := range n {
			if i != j {
				ways[j] = newProxy(t, "tcp", listen[j])
				urls = append(urls, "nats-route://"+ways[j].addr())
			}
		}
		r.routes = append(r.routes, ways)
		config := fmt.Sprintf("cluster { name: fanfare, listen: %q, no_advertise: true, routes: [%s] }", listen[i], `"`+strings.Join(urls, `", "`)+`"`)
		b := makeBroker(t, fmt.Sprint("n", i), servertest.FreeAddress(t), "")
		b.configure(syncing, config)
		r.servers = append(r.servers, b)
		r.doors = append(r.doors, newProxy(t, "tcp", b.addr))
	}
	return r
}

// urls is the list of all servers, through their doors.
func (r *ring) urls() string {
	var all []string
	for _, d := range r.doors {
		all = append(all, "nats://fanfare:"+natsPassword+"@"+d.addr())
	}
	return strings.Join(all, ",")
}

// isolate drops what a server sends and is sent, and returns what ends that.
func (r *ring) isolate(b *broker) (heal func()) {
	var cut []*proxy
	for i, s := range r.servers {
		if s != b {
			continue
		}
		cut = append(cut, r.doors[i])
		for j := range r.servers {
			if j != i {
				cut = append(cut, r.routes[i][j], r.routes[j][i])
			}
		}
	}
	for _, p := range cut {
		p.partition(true, true)
	}
	return func() {
		for _, p := range cut {
			p.heal()
		}
	}
}
