package main

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// topology runs `fanfare topology ARGS` and wants each of the words in what it prints.
func topology(t *testing.T, code int, env []string, args []string, words ...string) (out string) {
	t.Helper()
	p := start(t, dataDir(t), env, append([]string{"topology"}, args...)...)
	if got := p.exitCode(); got != code {
		t.Errorf("topology %v: exit code %d, want %d", args, got, code)
	}
	for _, word := range words {
		if !strings.Contains(p.out.String(), word) {
			t.Errorf("topology %v printed %q, want %q in it", args, p.out, word)
		}
	}
	return p.out.String()
}

// `topology apply` changes the NATS that it was told of and makes nothing smaller unasked. A role whose settings differ from the
// streams takes the bounds of the streams, and says so.
func TestTopologyApply(t *testing.T) {
	t.Parallel()
	broker := servertest.NATS(t, servertest.Listen)
	env := sharedSettings(broker.AdminURL(), servertest.EmptyPostgresURL(t))
	env = env[:len(env):len(env)] // so that each append copies
	at := strings.TrimPrefix(broker.ClientURL(), "nats://")
	smaller := append(env, "FANFARE_EVENTS_MAX_BYTES=134217728", "FANFARE_EVENTS_MAX_AGE=24h")

	topology(t, exitError, nil, []string{"apply"}, "FANFARE_NATS_URL", "--embedded")
	topology(t, exitError, append(env, "FANFARE_EVENTS_MAX_BYTES=1125899906842624"), []string{"apply"},
		"insufficient", "FANFARE_EVENTS_MAX_BYTES", "max_file_store")
	topology(t, exitOK, env, []string{"apply"}, "EVENTS applied at nats://", at, server.VERSION)
	topology(t, exitError, smaller, []string{"apply"}, "nothing was applied", "--shrink",
		"MaxBytes is 268435456", "FANFARE_EVENTS_MAX_BYTES says 134217728", "MaxAge is 168h0m0s", "FANFARE_EVENTS_MAX_AGE says 24h0m0s")
	topology(t, exitError, smaller, []string{"check"}, "set it to 268435456")
	topology(t, exitOK, env, []string{"check"})

	role := start(t, dataDir(t), smaller, "ingest")
	role.wait("it is ready", func() bool { return strings.Contains(role.out.String(), "msg=ready") })
	for _, word := range []string{"using the stream's", "stream_has=268435456", "setting_says=134217728", "setting=FANFARE_EVENTS_MAX_AGE"} {
		if !strings.Contains(role.out.String(), word) {
			t.Errorf("a role with smaller settings logged\n%s\nwant %s in it", role.out, word)
		}
	}
	fails(t, exitError, append(env, "FANFARE_KEEP_EVENTS=100h", "FANFARE_EVENTS_MAX_AGE=48h"), []string{"ingest"}, "FANFARE_KEEP_EVENTS")

	topology(t, exitOK, smaller, []string{"apply", "--shrink"}, "EVENTS applied")
	topology(t, exitOK, smaller, []string{"check"})
}
