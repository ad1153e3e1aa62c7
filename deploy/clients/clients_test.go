package clients

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	root = "../.."
	key  = "the-admin-key-of-the-generated-clients"
	// patience bounds how long the test waits for something that must happen; it measures nothing.
	patience = 4 * time.Minute
)

// Each client is generated and compiled, makes a subscription, publishes an event, reads it and its delivery, and retries.
func TestGeneratedClients(t *testing.T) {
	t.Parallel()
	document, err := filepath.Abs(root + "/docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("testdata/ogen/ogen.yml")
	if err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	api := startFanfare(t)
	for name, generate := range map[string][]string{
		"oapi": {"oapi-codegen", "-package", "client", "-generate", "client,models", "-o", "client/client.go", document},
		"ogen": {"ogen", "-package", "client", "-config", config, "-target", "client", document},
	} {
		t.Run(name, func(t *testing.T) {
			dir := module(t, name)
			do(t, dir, "go", append([]string{"tool"}, generate...)...)
			do(t, dir, "go", "run", "-mod=mod", ".", api, key, receiver.URL)
		})
	}
	t.Run("receiver", func(t *testing.T) { generateReceiver(t, api) })
}

// generateReceiver generates a receiver from a tenant's catalog, and lets it receive. Both generators read the catalog.
func generateReceiver(t *testing.T, api string) {
	const tenant = "receiver"
	call(t, http.MethodPost, api+"/v1/event-types?tenant="+tenant, `{"name":"order.created","sample":{"order":"o_1"},"schema":{"type":"object",
		"required":["order"],"properties":{"order":{"type":"string"},"lines":{"type":"array","items":{"$ref":"#/$defs/line"}}},
		"$defs":{"line":{"type":"object","properties":{"sku":{"type":"string"},"count":{"type":"integer"}}}}}}`)
	catalog := filepath.Join(t.TempDir(), "catalog.json")
	if err := os.WriteFile(catalog, call(t, http.MethodGet, api+"/v1/catalog?tenant="+tenant, ""), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("testdata/receiver/ogen.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := module(t, "receiver")
	do(t, dir, "go", "tool", "oapi-codegen", "-package", "client", "-generate", "models", "-o", filepath.Join(t.TempDir(), "models.go"), catalog)
	do(t, dir, "go", "tool", "ogen", "-package", "client", "-config", config, "-target", "client", catalog)
	do(t, dir, "go", "run", "-mod=mod", ".", api, key, tenant)
}

// call asks as the admin, and returns the body of an answer of 2xx.
func call(t *testing.T, method, url, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %d %s (%v)", method, url, resp.StatusCode, text, err)
	}
	return text
}

// module makes a module with the program of a generator and these versions of libraries.
func module(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "client"), 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"go.mod": "go.mod", "go.sum": "go.sum", "testdata/" + name + "/main.go": "main.go"} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func do(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// startFanfare builds and runs everything in one process, and returns the API's address.
func startFanfare(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "fanfare")
	do(t, root, "go", "build", "-o", binary, "./cmd/fanfare")
	address := freeAddress(t)
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, "all")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Env = append(os.Environ(), "FANFARE_ADDR="+address, "FANFARE_OPS_ADDR=127.0.0.1:0", "FANFARE_NATS_LISTEN=off", "FANFARE_DATA_DIR="+t.TempDir(),
		"FANFARE_ADMIN_KEY="+key, "FANFARE_ALLOW_PRIVATE_CIDRS=127.0.0.0/8")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // It was interrupted.
	})
	await(t, "http://"+address+"/openapi.json")
	return "http://" + address
}

// freeAddress is one that nobody listens at, below the ports that the kernel hands out by itself: a connection of any process might
// take one of those before it is used.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// await asks until there is an answer.
func await(t *testing.T, url string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			return
		}
	}
	t.Fatalf("no answer from %s", url)
}
