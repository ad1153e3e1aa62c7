package chaos_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// binary builds the binary once a test process, in the user's cache, where the next run finds it.
var binary = sync.OnceValues(func() (string, error) { return build("fanfare-chaos") })

// breakable is binary with the crash points in it.
var breakable = sync.OnceValues(func() (string, error) { return build("fanfare-chaos-faults", "-tags", "faults") })

// build returns a path that leads to the same binary until this test process ends, also when another run replaces the file.
func build(name string, flags ...string) (string, error) {
	path := filepath.Join(cache(), name)
	made := fmt.Sprintf("%s.%d", path, os.Getpid()) // A process of another run may be starting from the path.
	args := append(append([]string{"build"}, flags...), "-o", made, "github.com/fanfarehq/fanfare/cmd/fanfare")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	file, err := os.Open(made)
	if err != nil {
		return "", err
	}
	builds = append(builds, file)
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd()), os.Rename(made, path)
}

// builds keeps the files of the binaries open.
var builds []*os.File

func cache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "fanfare-tests")
}

// process is one fanfare, which can be killed, stopped and started again at the same addresses.
type process struct {
	t          testing.TB
	name, role string
	path       string // of its binary
	api, ops   string // host:port
	env        []string
	out        output
	nats, pg   *proxy // what it uses them through; nil: directly

	cmd  *exec.Cmd
	done chan struct{}
}

// start starts the process; ready waits for it.
func (p *process) start(env ...string) {
	p.t.Helper()
	p.cmd, p.done = exec.Command(p.path, p.role), make(chan struct{})
	p.cmd.Env = append(append(cleanEnv(), p.env...), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // How it ended does not matter.
		close(done)
	}(p.cmd, p.done)
}

// kill ends it without a warning.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// term ends it in the orderly way.
func (p *process) term() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// limitFiles bounds how many files it may have open, and returns the bound of before.
func (p *process) limitFiles(to uint64) (before uint64) {
	var limit unix.Rlimit
	err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit)
	if before = limit.Cur; err == nil {
		limit.Cur = to
		err = unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil)
	}
	if err != nil {
		p.t.Errorf("limit the files of %s: %v", p.name, err)
	}
	return before
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ready reports whether /readyz says so.
func (p *process) ready() bool { return p.readiness().Status == "ready" }

type readiness struct {
	Status, Durability string
	Dependencies       map[string]string
}

// readiness is the answer of /readyz; its status is empty if there was none.
func (p *process) readiness() (r readiness) {
	resp, err := brief.Get("http://" + p.ops + "/readyz")
	if err != nil {
		return r
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&r) // An answer that is cut off is none.
	return r
}

// await waits until it is ready.
func (p *process) await() {
	p.t.Helper()
	if !eventually(2*time.Minute, func() bool { return !p.alive() || p.ready() }) || !p.alive() {
		p.t.Fatalf("%s is not ready: %+v; it printed:\n%s", p.name, p.readiness(), p.out.tail())
	}
}

// sample measures the process; false if it cannot be.
func (p *process) sample(phase string) (sample, bool) {
	s := sample{process: p.name, phase: phase}
	if s.megabytes = megabytes(p.cmd); s.megabytes == 0 {
		return s, false
	}
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	s.files = len(files)
	s.routines = int(p.metric("go_goroutines"))
	return s, s.routines > 0
}

// megabytes is the memory that a process uses; 0 if it has ended.
func megabytes(cmd *exec.Cmd) int {
	if cmd == nil {
		return 0
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)) // It may have been killed.
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kb, _ := strconv.Atoi(strings.Fields(after + " 0")[0])
	return kb >> 10
}

// metric reads a metric without labels; 0 if it cannot be read.
func (p *process) metric(name string) float64 {
	resp, err := brief.Get("http://" + p.ops + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	_, _ = text.ReadFrom(resp.Body)
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text.String())
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(found[1], 64)
	return n
}

// brief asks processes that may be stopped.
var brief = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// cleanEnv is the environment without settings of ours.
func cleanEnv() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FANFARE_") {
			env = append(env, v)
		}
	}
	return env
}

// output keeps what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) tail() string {
	s := o.String()
	return s[max(len(s)-6<<10, 0):]
}

// eventually asks until it is so, or the time is over. Other processes send no signal.
func eventually(most time.Duration, so func() bool) bool {
	deadline := time.Now().Add(most)
	for !so() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}
