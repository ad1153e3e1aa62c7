package check

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// root is the repository.
const root = "../.."

// patience bounds how long a test waits for something that must happen; no test measures by it.
const patience = 4 * time.Minute

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := fanfare(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// fanfare builds the binary, once.
var fanfare = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fanfare-check-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "fanfare")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/fanfare")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// await asks again and again: other processes send no signal.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
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

// output runs a program that must succeed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
