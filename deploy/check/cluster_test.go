package check

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Three servers with deploy/nats-cluster.conf are a cluster whose streams survive the loss of one of them.
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
	nc, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}, Replicas: 3})
		return err == nil && stream.CachedInfo().Cluster != nil && len(stream.CachedInfo().Cluster.Replicas) == 2
	}
	await(t, "a stream has three replicas", ask)
	servers[2].Shutdown()
	await(t, "it is there without one server", ask)
}
