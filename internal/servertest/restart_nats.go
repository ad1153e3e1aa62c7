package servertest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

// RestartableNATS is a NATS server in a process of its own, so that it can be killed and come back with its
// streams. The process is the test's own program once more; see Main.
type RestartableNATS struct {
	t      testing.TB
	dir    string
	listen string

	cmd   *exec.Cmd
	stdin io.WriteCloser // the child ends when this is closed, so also when this process is killed
}

// natsChild is the environment variable that makes Main run a NATS server instead of tests: "listen dir".
const natsChild = "FANFARE_SERVERTEST_NATS"

// NewRestartableNATS starts a server with JetStream that syncs every write. It ends with the test.
func NewRestartableNATS(t testing.TB) *RestartableNATS {
	t.Helper()
	if !suite.main.Load() {
		t.Fatal("servertest: the package needs `func TestMain(m *testing.M) { servertest.Main(m) }`, which runs NATS")
	}
	n := &RestartableNATS{t: t, dir: t.TempDir(), listen: FreeAddress(t)}
	n.Start()
	t.Cleanup(func() {
		if n.cmd != nil {
			_ = n.cmd.Process.Kill() // it may be frozen
			_ = n.cmd.Wait()
		}
	})
	return n
}

// URL is that of the server; it stays the same over restarts.
func (n *RestartableNATS) URL() string {
	n.t.Helper()
	url, err := embedded.NATSURL(n.dir, n.listen)
	if err != nil {
		n.t.Fatal("servertest: ", err)
	}
	return url
}

// Start starts the server after a Stop or a Kill and returns once it takes connections.
func (n *RestartableNATS) Start() {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatalf("servertest: %v", err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), natsChild+"="+n.listen+" "+n.dir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatalf("servertest: %v", err)
	}
	if n.stdin, err = cmd.StdinPipe(); err != nil {
		n.t.Fatalf("servertest: %v", err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatalf("servertest: start NATS: %v", err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		_ = cmd.Wait() // why is in its output
		n.t.Fatalf("servertest: start NATS: it said %q and ended", line)
	}
	n.cmd = cmd
}

// Stop ends the server in an orderly way.
func (n *RestartableNATS) Stop() {
	n.t.Helper()
	_ = n.stdin.Close()
	if err := n.cmd.Wait(); err != nil {
		n.t.Fatalf("servertest: stop NATS: %v", err)
	}
	n.cmd = nil
}

// Kill ends the server without a warning.
func (n *RestartableNATS) Kill() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
	_ = n.cmd.Wait() // it says that it was killed
	n.cmd = nil
}

// Freeze stops the server where it is: connections stay, nobody answers.
func (n *RestartableNATS) Freeze() {
	n.t.Helper()
	n.signal(syscall.SIGSTOP)
}

// Thaw lets a frozen server go on.
func (n *RestartableNATS) Thaw() {
	n.t.Helper()
	n.signal(syscall.SIGCONT)
}

func (n *RestartableNATS) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatalf("servertest: signal NATS: %v", err)
	}
}

// runNATS is the child's whole life.
func runNATS(args string) int {
	listen, dir, _ := strings.Cut(args, " ")
	n, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir, Listen: listen, SyncAlways: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, "servertest:", err)
		return 1
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it or dies
	n.Shutdown()
	return 0
}
