package chaos_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// formerNATS is a version of nats-server of the minor version before the embedded one.
const formerNATS = "v2.14.10"

// formerServer builds it, once for this machine, from the source that Go's module proxy has.
func formerServer(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(cache(), "nats-server-"+formerNATS)
	path := filepath.Join(dir, "nats-server")
	if exec.Command(path, "-v").Run() == nil {
		return path
	}
	install := exec.Command("go", "install", "github.com/nats-io/nats-server/v2@"+formerNATS)
	install.Env = append(os.Environ(), "GOBIN="+dir)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("build nats-server %s (it needs a Go module proxy): %v\n%s", formerNATS, err, out)
	}
	return path
}

// TestNATSVersions restarts NATS under load as the next minor version on the same files, and as the former one again. It belongs
// to `make chaos`.
func TestNATSVersions(t *testing.T) {
	if *minutes == 0 {
		return
	}
	path, err := binary()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	former := formerServer(t)
	b := makeBroker(t, "n0", servertest.FreeAddress(t), "")
	b.exe = former
	b.start()
	d := &loaded{w: newWorldOn(t, path, counts{api: 1, ingest: 1, fanout: 1, deliver: 2}, b, servertest.NewRestartablePostgres(t))}
	d.load(t, 10)
	for _, to := range []struct{ name, exe string }{{"upgrade NATS", ""}, {"downgrade NATS", former}} {
		time.Sleep(5 * time.Second)
		f := fault{name: to.name, injected: time.Now(), bound: time.Minute, mayDuplicate: true, worksInFlight: 2 * inHand}
		b.stop()
		b.exe = to.exe
		b.start()
		d.heal(&f)
		t.Logf("%s: resumed after %.1fs", f.name, f.recovered.Sub(f.healed).Seconds())
	}
	d.end(t)
}
