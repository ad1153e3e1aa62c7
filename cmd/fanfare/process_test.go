package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/running"
)

// patience is how long a test waits for what must happen. It bounds a failure; no test measures by it.
const patience = 4 * time.Minute

// binary builds the fanfare binary, once for all tests of this process. It lies in the user's cache, where
// the next run finds it if nothing changed.
var binary = sync.OnceValues(func() (string, error) { return build("fanfare-e2e") })

// faulty is binary with the faults of internal/suspect in it.
var faulty = sync.OnceValues(func() (string, error) { return build("fanfare-e2e-faults", "-tags", "faults") })

func build(name string, flags ...string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	args := append([]string{"build"}, flags...)
	if raceEnabled {
		name, args = name+"-race", append(args, "-race")
	}
	path := filepath.Join(cache, "fanfare-tests", name)
	if out, err := exec.Command("go", append(args, "-o", path, ".")...).CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
}

// storesSlowly has a request wait for the storage of a machine that is busy with other tests.
const storesSlowly = "FANFARE_INGEST_TIMEOUT=1m"

// process is a fanfare that runs as a user would start it.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *lockedBuffer
	done chan struct{}
	dir  string // its data directory
}

// lockedBuffer collects what a process prints.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// tail is the end of it, for a failed test's log.
func (b *lockedBuffer) tail() string {
	s := b.String()
	return s[max(len(s)-4<<10, 0):]
}

// start starts the binary with free ports and the data directory, and env beside. It is killed with the test.
func start(t *testing.T, dir string, env []string, args ...string) *process {
	t.Helper()
	return startBinary(t, binary, dir, env, args...)
}

func startBinary(t *testing.T, binary func() (string, error), dir string, env []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	p := &process{t: t, cmd: exec.Command(path, args...), out: &lockedBuffer{}, done: make(chan struct{}), dir: dir}
	p.cmd.Env = append(cleanEnv(), "FANFARE_DATA_DIR="+dir, "FANFARE_ADDR=127.0.0.1:0", "FANFARE_OPS_ADDR=127.0.0.1:0", "FANFARE_SHUTDOWN_DELAY=0s",
		"FANFARE_NATS_LISTEN=127.0.0.1:0", "FANFARE_ALLOW_PRIVATE_CIDRS=127.0.0.0/8", storesSlowly)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	go func() {
		_ = p.cmd.Wait() // The exit code is in ProcessState.
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("fanfare %s printed, at the end:\n%s", strings.Join(args, " "), p.out.tail())
		}
	})
	return p
}

// cleanEnv is the environment without settings of ours.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FANFARE_") {
			env = append(env, v)
		}
	}
	return env
}

// dataDir is a directory for `fanfare all`. A process that was killed leaves a Postgres that takes a moment to end,
// and writes until then.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fanfare-run-") // not of servertest, whose sweeps remove what nobody has locked
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { await(t, "the data directory can be removed", func() bool { return os.RemoveAll(dir) == nil }) })
	return dir
}

// startAll starts `fanfare all` and returns when it is ready.
func startAll(t *testing.T, dir string, env ...string) (*process, running.Process) {
	t.Helper()
	p := start(t, dir, env, "all")
	var at running.Process
	p.wait("it is ready", func() bool {
		var err error
		at, err = running.Read(dir)
		return err == nil && at.PID == p.cmd.Process.Pid
	})
	return p, at
}

// wait waits until what is expected of the process is so, and fails if the process ends first.
func (p *process) wait(what string, so func() bool) {
	p.t.Helper()
	await(p.t, what, func() bool {
		select {
		case <-p.done:
			if !so() {
				p.t.Fatalf("it ended before %s: %v", what, p.cmd.ProcessState)
			}
			return true
		default:
			return so()
		}
	})
}

// await asks again and again: what other processes do sends no signal.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// stop sends SIGTERM and wants exit code 0.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("SIGTERM: %v", err)
	}
	if code := p.exitCode(); code != 0 {
		p.t.Errorf("exit code after SIGTERM: got %d, want 0", code)
	}
}

// exitCode waits for the end.
func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("it does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// fails runs a command that must fail, and wants each of the words in what it prints.
func fails(t *testing.T, code int, env, args []string, words ...string) {
	t.Helper()
	p := start(t, dataDir(t), env, args...)
	if got := p.exitCode(); got != code {
		t.Errorf("fanfare %v: exit code %d, want %d", args, got, code)
	}
	for _, word := range words {
		if !strings.Contains(p.out.String(), word) {
			t.Errorf("fanfare %v printed %q, want %q in it", args, p.out, word)
		}
	}
}

// get reads JSON from an operations route; the status is returned.
func get(t *testing.T, url string, into any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if into != nil {
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatalf("GET %s: %v", url, err)
		}
	}
	return resp.StatusCode
}

// adminClient speaks to a running fanfare with its admin key.
func adminClient(t *testing.T, at running.Process, dir string) *client.Client {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, adminKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	c := client.New(at.API, strings.TrimSpace(string(key)))
	t.Cleanup(c.Close)
	return c
}

// send publishes events that have ids. What may not have been stored it sends again, as the guide says.
func send(c *client.Client, events []byte) error {
	for {
		err := c.Do(context.Background(), "POST /v1/events?tenant=acme", events, nil)
		if err == nil || !strings.Contains(err.Error(), ": 503 ") {
			return err
		}
	}
}

// sent is send that must succeed.
func sent(t *testing.T, c *client.Client, events []byte) {
	t.Helper()
	if err := send(c, events); err != nil {
		t.Fatal(err)
	}
}

// call is do that must succeed.
func call(t *testing.T, c *client.Client, route string, in, out any) {
	t.Helper()
	if err := c.Do(context.WithoutCancel(t.Context()), route, in, out); err != nil {
		t.Fatal(err)
	}
}
