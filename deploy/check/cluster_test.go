package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Three servers with deploy/nats-cluster.conf are a cluster that survives one of them, and Fanfare calls its streams synced.
func TestNATSCluster(t *testing.T) {
	for name, value := range secrets(t) {
		if strings.HasPrefix(name, "NATS_") {
			t.Setenv(name, value)
		}
	}
	t.Setenv("NATS_ROUTE_PASSWORD", "0a1b2c3d4e5froute")
	var addresses, routes []string
	for range 3 {
		addresses = append(addresses, freeAddress(t))
		routes = append(routes, fmt.Sprintf("%q", "nats-route://route:0a1b2c3d4e5froute@"+addresses[len(addresses)-1]))
	}
	t.Setenv("NATS_ROUTES", "["+strings.Join(routes, ",")+"]")
	var servers []*server.Server
	var urls []string
	for i, address := range addresses {
		t.Setenv("NATS_NAME", fmt.Sprintf("nats-%d", i+1))
		options, err := server.ProcessConfigFile(filepath.Join(root, "deploy/nats-cluster.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if options.SyncAlways || options.JetStreamMaxStore != 20<<30 && options.JetStreamMaxStore != 20e9 {
			t.Errorf("JetStream: sync always %v, %d bytes", options.SyncAlways, options.JetStreamMaxStore)
		}
		options.Host, options.Port, options.HTTPPort, options.NoSigs, options.StoreDir = "127.0.0.1", -1, 0, true, t.TempDir()
		options.Cluster.Host = "127.0.0.1"
		if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &options.Cluster.Port); err != nil {
			t.Fatal(err)
		}
		s, err := server.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	for _, s := range servers {
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("NATS does not start")
		}
		urls = append(urls, "nats://topology:"+secrets(t)["NATS_TOPOLOGY_PASSWORD"]+"@"+s.Addr().String())
	}
	await(t, "the servers have a leader", func() bool { return servers[0].JetStreamIsCurrent() && len(servers[0].JetStreamClusterPeers()) == 3 })

	path, err := fanfare()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), path, args...)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "FANFARE_NATS_URL=" + strings.Join(urls, ","), "FANFARE_STREAM_REPLICAS=3", "FANFARE_DATA_DIR=" + t.TempDir(),
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("topology", "apply"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	check := func() bool {
		out, err := run("topology", "check")
		return err == nil && strings.Contains(out, "EVENTS as it should be") && !strings.Contains(out, "degraded")
	}
	await(t, "the streams are as they should be", check)
	servers[2].Shutdown()
	await(t, "the streams are there without one server", check)
}
