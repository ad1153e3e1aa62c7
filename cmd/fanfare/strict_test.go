package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// TestStrict runs an installation as a careful operator would: only declared types, tokens of an identity provider, and
// the API in two processes.
func TestStrict(t *testing.T) {
	t.Parallel()
	provider := newTokens(t)
	s := testSettings(t.TempDir())
	s.server.PostgresURL = servertest.PostgresURL(t)
	s.fanout.EventTypes = fanout.Strict
	s.access.JWKSURL, s.access.JWTIssuer, s.access.JWTAudience = provider.url, "https://idp.example", "fanfare"
	here := &deployment{at: runInProcess(t, s, roleAll), client: http.DefaultClient}
	more := *s
	more.nats.URL = here.at.NATS
	there := &deployment{at: runInProcess(t, &more, roleAPI), client: http.DefaultClient}
	for name, test := range map[string]func(*testing.T){
		"Types":      func(t *testing.T) { testStrictTypes(t, here, there) },
		"Tokens":     func(t *testing.T) { testTokens(t, provider, here, there) },
		"Keys":       func(t *testing.T) { testKeysElsewhere(t, here, there) },
		"Rotation":   func(t *testing.T) { testRotation(t, here) },
		"SecretKeys": func(t *testing.T) { testSecretKeys(t, here, &more) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// A type that nobody declared is refused over HTTP, and put into quarantine over NATS, as is what does not fit its schema.
func testStrictTypes(t *testing.T, here, there *deployment) {
	tenant := unique("strict-")
	key := here.key(t, tenant)
	here.call(t, key, "POST /v1/events", []byte(`{"type":"order.created","data":{"total":1}}`), 422)
	here.call(t, testAdminKey, "POST /v1/event-types?tenant="+tenant,
		[]byte(`{"name":"order.created","schema":{"type":"object","required":["total"]}}`), 201)
	// What one process declares, the other knows at once.
	there.call(t, key, "POST /v1/events", []byte(`{"type":"order.created","data":{"total":1}}`), 202)
	there.call(t, key, "POST /v1/events", []byte(`{"type":"order.created","data":{}}`), 422)

	js := connectTo(t, here.at.NATS)
	publish := func(kind, data string, headers ...string) {
		m := nats.NewMsg("events." + tenant + "." + kind)
		m.Data = []byte(data)
		for i := 0; i < len(headers); i += 2 {
			m.Header[headers[i]] = []string{headers[i+1]}
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	publish("order.created", `{"total":2}`, "ce-specversion", "1.0", "ce-id", "over_nats", "ce-source", "/shop", "ce-type", "order.created",
		"ce-subject", "o_17", "ce-time", "2026-11-20T10:00:00Z")
	publish("order.created", `{"sum":2}`)
	publish("order.unknown", `{}`)
	var taken struct {
		Time     time.Time
		ObjectID string `json:"object_id"`
		Data     json.RawMessage
	}
	there.until(t, key, "GET /v1/events/"+event.CloudID("/shop", "over_nats"), func(r reply) bool { return r.status == 200 }).decode(t, &taken)
	if taken.ObjectID != "o_17" || !taken.Time.Equal(time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)) || string(taken.Data) != `{"total":2}` {
		t.Errorf("the event of CloudEvents headers is %+v", taken)
	}
	there.until(t, key, "GET /v1/quarantine", func(r reply) bool {
		return strings.Contains(r.body, `"reason":"schema"`) && strings.Contains(r.body, `"reason":"unknown_type"`)
	})
}

func connectTo(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// tokens is an identity provider with one key.
type tokens struct {
	url string
	key ed25519.PrivateKey
}

func newTokens(t *testing.T) *tokens {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "x": base64.RawURLEncoding.EncodeToString(public),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	t.Cleanup(server.Close)
	return &tokens{server.URL, private}
}

func (p *tokens) sign(t *testing.T, tenant, scope string, end time.Time, key ed25519.PrivateKey) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "https://idp.example", "aud": "fanfare", "sub": "user-1", "exp": end.Unix(), "iat": time.Now().Add(-time.Minute).Unix(),
		"tenant": tenant, "scope": scope,
	})
	token.Header["kid"] = "k"
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// A token may do what its scopes say, for its tenant alone, in every process.
func testTokens(t *testing.T, provider *tokens, here, there *deployment) {
	tenant, other := unique("tokens-"), unique("tokens-other-")
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	soon := time.Now().Add(time.Hour)
	reader := provider.sign(t, tenant, "subscriptions:read", soon, provider.key)
	writer := provider.sign(t, tenant, "subscriptions:write subscriptions:read", soon, provider.key)
	var sub identified
	here.call(t, writer, "POST /v1/subscriptions", []byte(`{"name":"s","url":"http://127.0.0.1:9/","event_types":["*"]}`), 201).decode(t, &sub)
	for _, d := range []*deployment{here, there} {
		d.call(t, reader, "GET /v1/subscriptions/"+sub.ID, nil, 200)
		d.call(t, reader, "GET /v1/subscriptions/"+sub.ID+"/secret", nil, 403)
		d.call(t, reader, "GET /v1/subscriptions?tenant="+other, nil, 403)
		d.call(t, reader, "GET /v1/tenants/"+tenant, nil, 403)
		d.call(t, provider.sign(t, other, "subscriptions:read", soon, provider.key), "GET /v1/subscriptions/"+sub.ID, nil, 404)
		d.call(t, provider.sign(t, tenant, "subscriptions:read", soon, stranger), "GET /v1/subscriptions", nil, 401)
		d.call(t, provider.sign(t, tenant, "subscriptions:read", time.Now().Add(-time.Hour), provider.key), "GET /v1/subscriptions", nil, 401)
		d.call(t, provider.sign(t, tenant, "subscriptions:read", time.Now().Add(48*time.Hour), provider.key), "GET /v1/subscriptions", nil, 401)
	}
}

// A key that one process revokes, or whose time is over, ends in the other, which has used it before. Its last use is shown.
func testKeysElsewhere(t *testing.T, here, there *deployment) {
	tenant := unique("keys-")
	type made struct{ ID, Key string }
	make := func(body map[string]any) (k made) {
		body["name"], body["tenant"], body["scopes"] = "k", tenant, []string{"events:read", "keys:write"}
		here.call(t, testAdminKey, "POST /v1/keys", body, 201).decode(t, &k)
		return k
	}
	revoked, brief, kept := make(map[string]any{}), make(map[string]any{"expires_at": time.Now().Add(10 * time.Second)}), make(map[string]any{})
	for _, k := range []made{revoked, kept} {
		there.call(t, k.Key, "GET /v1/events", nil, 200)
	}
	here.call(t, kept.Key, "DELETE /v1/keys/"+revoked.ID, nil, 204)
	here.call(t, revoked.Key, "GET /v1/events", nil, 401)
	ends := func(k made) {
		there.until(t, k.Key, "GET /v1/events", func(r reply) bool { return r.status == 401 })
	}
	ends(revoked)
	ends(brief)
	here.call(t, brief.Key, "GET /v1/events", nil, 401)
	there.call(t, kept.Key, "GET /v1/events", nil, 200)
	here.until(t, testAdminKey, "GET /v1/keys?tenant="+tenant, func(r reply) bool {
		var list struct {
			Data []struct {
				ID   string
				Last *time.Time `json:"last_used_at"`
			}
		}
		r.decode(t, &list)
		for _, k := range list.Data {
			if k.ID == kept.ID {
				return k.Last != nil
			}
		}
		return false
	})
}

// While they overlap, the old secret and the new one both verify what is sent; of ed25519 both keys do.
func testRotation(t *testing.T, d *deployment) {
	tenant, receiver := unique("rotation-"), servertest.NewReceiver(t)
	key := d.key(t, tenant)
	d.call(t, testAdminKey, "POST /v1/event-types?tenant="+tenant, []byte(`{"name":"rotated"}`), 201)
	const sw1 = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	var shared, asymmetric, after struct {
		ID, Secret string
		PublicKey  string `json:"public_key"`
	}
	d.call(t, key, "POST /v1/subscriptions", map[string]any{"name": "s", "url": receiver.URL + "/hmac", "event_types": []string{"rotated"}, "secret": sw1}, 201).decode(t, &shared)
	d.call(t, key, "POST /v1/subscriptions", map[string]any{"name": "a", "url": receiver.URL + "/ed25519", "event_types": []string{"rotated"}, "signing": "ed25519"}, 201).
		decode(t, &asymmetric)
	verifies := map[string][]func(http.Header, []byte) bool{"/hmac": {byShared(t, sw1)}, "/ed25519": {byPublic(t, asymmetric.PublicKey)}}
	for path, id := range map[string]string{"/hmac": shared.ID, "/ed25519": asymmetric.ID} {
		d.call(t, key, "POST /v1/subscriptions/"+id+"/rotate-secret", []byte(`{"overlap":"1h"}`), 202)
		d.call(t, key, "GET /v1/subscriptions/"+id+"/secret", nil, 200).decode(t, &after)
		if path == "/hmac" {
			verifies[path] = append(verifies[path], byShared(t, after.Secret))
		} else {
			verifies[path] = append(verifies[path], byPublic(t, after.PublicKey))
		}
	}
	d.call(t, key, "POST /v1/events", []byte(`{"type":"rotated","data":{"a":1}}`), 202)
	for _, r := range receiver.Wait(2) {
		if n := len(strings.Fields(r.Header.Get("Webhook-Signature"))); n != 2 {
			t.Errorf("%s has %d signatures, want 2", r.Path, n)
		}
		for i, verify := range verifies[r.Path] {
			if !verify(r.Header, r.Body) {
				t.Errorf("%s is not verified by secret %d: %v", r.Path, i, r.Header)
			}
		}
	}
}

func byShared(t *testing.T, secret string) func(http.Header, []byte) bool {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return func(h http.Header, body []byte) bool { return w.Verify(body, h) == nil }
}

func byPublic(t *testing.T, key string) func(http.Header, []byte) bool {
	t.Helper()
	public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whpk_"))
	if err != nil || len(public) != ed25519.PublicKeySize {
		t.Fatalf("%s is no public key: %v", key, err)
	}
	return func(h http.Header, body []byte) bool {
		signed := bytes.Join([][]byte{[]byte(h.Get("Webhook-Id")), []byte(h.Get("Webhook-Timestamp")), body}, []byte("."))
		for signature := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "v1a,"))
			if err == nil && ed25519.Verify(public, signed, raw) {
				return true
			}
		}
		return false
	}
}

// A process that lacks the key of a stored secret does not start; with it beside a newer one, it does.
func testSecretKeys(t *testing.T, d *deployment, s *settings) {
	d.call(t, d.key(t, unique("sealed-")), "POST /v1/subscriptions", []byte(`{"name":"s","url":"http://127.0.0.1:9/","event_types":["*"]}`), 201)
	const other = "k2:YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU="
	without, with := *s, *s
	without.server.SecretKeys = other
	with.server.SecretKeys = other + "," + s.server.SecretKeys
	for _, r := range []role{roleAPI, roleFanout, roleDeliver} {
		err := serveRole(t.Context(), &without, r, host{log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), "k1") {
			t.Errorf("%s without the key of what is stored: %v, want an error that names k1", r, err)
		}
	}
	runInProcess(t, &with, roleAPI)
}
