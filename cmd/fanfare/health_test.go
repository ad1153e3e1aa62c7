package main

import (
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// health runs `fanfare health` against a process with this FANFARE_OPS_ADDR, and returns its exit code and output.
func health(t *testing.T, dir, ops string, args ...string) (code int, out string) {
	t.Helper()
	p := start(t, dir, []string{"FANFARE_OPS_ADDR=" + ops}, append([]string{"health"}, args...)...)
	code = p.exitCode()
	return code, p.out.String()
}

func TestHealthFindsTheProcess(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:9464": "http://127.0.0.1:9464", "0.0.0.0:9464": "http://127.0.0.1:9464", ":9464": "http://127.0.0.1:9464",
		"[::]:9464": "http://[::1]:9464", "ops.internal:9464": "http://ops.internal:9464",
	} {
		if got, err := opsURL(serverConfig{OpsAddr: addr}); err != nil || got != want {
			t.Errorf("FANFARE_OPS_ADDR=%s: got %s, %v, want %s", addr, got, err, want)
		}
	}
	if code, out := health(t, t.TempDir(), servertest.FreeAddress(t)); code != exitError || !strings.Contains(out, "FANFARE_OPS_ADDR") {
		t.Errorf("with no process: exit code %d, %s", code, out)
	}
	if code, out := health(t, t.TempDir(), "127.0.0.1:0"); code != exitError || !strings.Contains(out, "no fanfare all runs") {
		t.Errorf("with port 0 and no process: exit code %d, %s", code, out)
	}
}
