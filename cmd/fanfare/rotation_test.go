package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// fleet is one process of each role, whose key ring is rotated.
type fleet struct {
	t       *testing.T
	env     []string
	roles   map[string]*process
	ops     map[string]string // addresses
	apiAddr string
}

// restart stops a role's process, if it runs, and starts one with the key ring.
func (f *fleet) restart(role, keys string) {
	f.t.Helper()
	if p := f.roles[role]; p != nil {
		p.stop()
	}
	env := append(slices.Clone(f.env), "FANFARE_SECRET_KEYS="+keys, "FANFARE_OPS_ADDR="+f.ops[role], "FANFARE_ADDR="+f.apiAddr)
	p := start(f.t, dataDir(f.t), env, role)
	p.wait(role+" is ready", func() bool { return strings.Contains(p.out.String(), "msg=ready") })
	f.roles[role] = p
}

// A rotation of the key ring is a rolling restart in any order: no delivery is lost or dead, and older keys may go after `fanfare
// rekey`, although an API key was never used.
func TestRotationInAnyOrder(t *testing.T) {
	t.Parallel()
	broker := servertest.NATS(t, servertest.Listen)
	f := &fleet{
		t: t, env: sharedSettings(broker.AdminURL(), servertest.EmptyPostgresURL(t)), roles: map[string]*process{},
		ops: map[string]string{"api": servertest.FreeAddress(t), "fanout": servertest.FreeAddress(t), "deliver": servertest.FreeAddress(t)}, apiAddr: servertest.FreeAddress(t),
	}
	if p := start(t, dataDir(t), f.env, "topology", "apply"); p.exitCode() != exitOK {
		t.Fatalf("topology apply: %s", p.out)
	}
	orders := [][]string{
		{"api", "fanout", "deliver"}, {"deliver", "fanout", "api"}, {"fanout", "deliver", "api"},
		{"api", "deliver", "fanout"}, {"deliver", "api", "fanout"}, {"fanout", "api", "deliver"},
	}
	rings := make([]string, len(orders)+1)
	for i := range rings {
		rings[i] = fmt.Sprintf("k%d:%s", i+1, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte('a' + i)}, 32)))
	}
	last := rings[len(orders)]
	for _, role := range []string{"api", "fanout", "deliver"} {
		f.restart(role, rings[0])
	}
	admin := client.New("http://"+f.apiAddr, "the-admin-key-of-this-test")
	t.Cleanup(admin.Close)
	var dormant struct{ Key string }
	call(t, admin, "POST /v1/keys", map[string]any{"tenant": "acme", "name": "dormant", "scopes": []string{"events:read"}}, &dormant)
	receiver := newTally(t)
	sent := 0
	for i, order := range orders {
		both := rings[i+1] + "," + rings[i]
		for _, role := range order {
			if i == 0 && role == "deliver" { // Subscriptions are sealed with a key that the worker lacks.
				awaitReadiness(t, "http://"+f.ops[role], http.StatusServiceUnavailable, "keys", `"k2"`)
			}
			f.restart(role, both)
			sent++
			name := fmt.Sprintf("s%d_%s", i, role)
			subscribe(t, admin, name, receiver.url+"/"+name, name)
			call(t, admin, "POST /v1/events?tenant=acme", map[string]any{"type": name, "data": map[string]any{}}, nil)
		}
		await(t, "all is delivered", func() bool { distinct, _ := receiver.counts(); return distinct == sent })
		p := start(t, dataDir(t), append(slices.Clone(f.env), "FANFARE_SECRET_KEYS="+both), "rekey")
		if code := p.exitCode(); code != exitOK || !strings.Contains(p.out.String(), "no other key") {
			t.Fatalf("rekey: exit code %d: %s", code, p.out)
		}
	}
	for _, role := range []string{"api", "fanout", "deliver"} {
		f.restart(role, last)
	}
	call(t, newClientOf(t, f.apiAddr, dormant.Key), "GET /v1/events", nil, nil)
	if err := client.All(t.Context(), admin, "/v1/dead-letters?tenant=acme", func(d map[string]any) { t.Errorf("dead: %v", d) }); err != nil {
		t.Error(err)
	}
	const wrong = "k7:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
	fails(t, exitError, append(slices.Clone(f.env), "FANFARE_SECRET_KEYS="+wrong), []string{"deliver"}, "FANFARE_SECRET_KEYS", "k7", "other bytes")
	fails(t, exitError, append(slices.Clone(f.env), "FANFARE_SECRET_KEYS="+rings[0]+","+wrong), []string{"deliver"}, "FANFARE_SECRET_KEYS", "k7")
}

func newClientOf(t *testing.T, addr, key string) *client.Client {
	t.Helper()
	c := client.New("http://"+addr, key)
	t.Cleanup(c.Close)
	return c
}
