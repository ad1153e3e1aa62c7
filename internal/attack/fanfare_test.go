package attack_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
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
)

// binary builds the binary once a test process, in the user's cache, where the next run finds it.
var binary = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	path := filepath.Join(cache, "fanfare-tests", "fanfare-attack")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/fanfare").CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// fanfare is a running `fanfare all`.
type fanfare struct {
	api, ops, nats string
	dir            string
	pid            int
	adminKey       string
	network        string          // the first half of the loopback addresses of this process's receivers
	identity       tls.Certificate // trusted by the process, for any address of the network that ends in .9.9
	done           chan struct{}
}

// start starts the binary in a directory of its own and returns when it is ready. It ends with the test.
func start(t *testing.T) *fanfare {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	dir, err := os.MkdirTemp("", "fanfare-run-") // short, for Postgres' socket; not of servertest, which sweeps
	if err != nil {
		t.Fatal(err)
	}
	f := &fanfare{dir: dir, done: make(chan struct{}), network: fmt.Sprintf("127.%d.%d", 64+mathrand.IntN(128), mathrand.IntN(256))}
	ca := f.certify(t, t.TempDir())
	out := &output{}
	cmd := exec.Command(path, "all")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FANFARE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "FANFARE_DATA_DIR="+dir, "FANFARE_ADDR=127.0.0.1:0", "FANFARE_OPS_ADDR=127.0.0.1:0", "FANFARE_SHUTDOWN_DELAY=0s",
		"FANFARE_OPS_PPROF=true", "FANFARE_NATS_LISTEN=127.0.0.1:0", "FANFARE_ALLOW_PRIVATE_CIDRS=127.0.0.0/8", "SSL_CERT_FILE="+ca)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	f.pid = cmd.Process.Pid
	go func() {
		_ = cmd.Wait() // Its end is the signal.
		close(f.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-f.done
		// The private Postgres takes a moment to end, and writes until then.
		_ = eventually(time.Minute, func() bool { return os.RemoveAll(dir) == nil })
		if t.Failed() {
			t.Logf("fanfare printed, at the end:\n%s", out.tail())
		}
	})
	f.await(t, dir)
	go f.guard()
	return f
}

// guard ends a process whose memory an attack makes grow without bound, before the machine suffers.
func (f *fanfare) guard() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-f.done:
			return
		case <-tick.C:
			if memory(f.pid, "VmRSS:") > 4*memoryMost {
				_ = syscall.Kill(f.pid, syscall.SIGKILL) // It may have ended.
			}
		}
	}
}

// await waits until the process says where it is.
func (f *fanfare) await(t *testing.T, dir string) {
	t.Helper()
	var at struct{ API, Ops, NATS string }
	ready := eventually(2*time.Minute, func() bool {
		select {
		case <-f.done:
			t.Fatal("fanfare ended before it was ready")
		default:
		}
		content, err := os.ReadFile(filepath.Join(dir, "running.json"))
		return err == nil && json.Unmarshal(content, &at) == nil
	})
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	if !ready || err != nil {
		t.Fatalf("fanfare is not ready: %v", err)
	}
	// The URL of running.json holds the credentials; the attackers have none.
	f.nats = regexp.MustCompile(`//[^@/]*@`).ReplaceAllString(at.NATS, "//")
	f.api, f.ops, f.adminKey = at.API, at.Ops, strings.TrimSpace(string(key))
}

// certify makes a certificate for the https receiver and returns the file of its authority.
func (f *fanfare) certify(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attack"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.ParseIP(f.network + ".99")}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	f.identity = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// output keeps what the process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.buf.Bytes()[max(o.buf.Len()-4<<10, 0):])
}

// resetPeak makes the kernel forget a process's peak memory; where it cannot, the peak is that of its life.
func resetPeak(pid int) { _ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) }

// peak returns the peak memory of a process in MB.
func peak(pid int) int { return memory(pid, "VmHWM:") }

// memory returns a line of a process's status in MB, 0 where /proc does not exist.
func memory(pid int, line string) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // absent on other systems
	_, after, _ := strings.Cut(string(status), line)
	kb, _ := strconv.Atoi(strings.Fields(after + " 0")[0]) // 0 where it is absent
	return kb >> 10
}

// eventually asks until it is so, or the time is over. Other processes send no signal.
func eventually(most time.Duration, so func() bool) bool {
	deadline := time.Now().Add(most)
	for !so() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}
