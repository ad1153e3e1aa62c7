package webhook_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// The published vectors (SW1 is that of all reference libraries, SW2 that of the specification's header
// example) and three of our own at the edges: no body, a body that is no text, the longest secret.
func TestSignVectors(t *testing.T) {
	t.Parallel()
	const (
		swID, swAt = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
		ownID      = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
		ownAt      = 1674087231
	)
	var longest [64]byte
	for i := range longest {
		longest[i] = byte(i)
	}
	tests := []struct {
		name, secret, id string
		at               int64
		body, want       string
	}{
		{"SW1", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", swID, swAt, `{"test": 2432232314}`,
			"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{"SW2", "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==", swID, swAt,
			`{"test": 2432232314}`,
			"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="},
		{"O1", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", ownID, ownAt, "",
			"v1,E8UY3Lfub/GehRsVrevz7Wh6EXc7uC1InJ5Bi30cJzs="},
		{"O2", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", ownID, ownAt, "\x00\xff\xfe",
			"v1,2LomCk6tpOWADSX1ypeECjGfSWRTi6xmd3MuDjxjkks="},
		{"O3", "whsec_" + base64.StdEncoding.EncodeToString(longest[:]), ownID, ownAt,
			`{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}`,
			"v1,9LtGxwbZoGrF8oS2FH4IGhfQpdLVQZEa0OR1k5rX7yE="},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := sign(t, []subscriptions.Secret{{Value: test.secret}}, webhook.Message{
				Event: &event.Event{ID: test.id}, Body: []byte(test.body), At: time.Unix(test.at, 999),
			})
			if got := h.Get("webhook-signature"); got != test.want {
				t.Errorf("signature: got %s, want %s", got, test.want)
			}
			if got := h.Get("webhook-id"); got != test.id {
				t.Errorf("id: got %s, want %s", got, test.id)
			}
		})
	}
}

// SW2's public key verifies what its private key signs, so a receiver that was given whpk_ can.
func TestSignAsymmetricVerifies(t *testing.T) {
	t.Parallel()
	public, err := base64.StdEncoding.DecodeString("1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")
	if err != nil {
		t.Fatal(err)
	}
	secret := "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	h := sign(t, []subscriptions.Secret{{Value: secret}}, webhook.Message{Event: &event.Event{ID: "e1"}, Body: []byte("x"), At: time.Unix(7, 0)})
	text, _ := strings.CutPrefix(h.Get("webhook-signature"), "v1a,")
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !ed25519.Verify(public, []byte("e1.7.x"), signature) {
		t.Errorf("signature %q does not verify: %v", text, err)
	}
}

// During a rotation a receiver with either secret verifies; after it, only one with the new secret.
func TestSignRotation(t *testing.T) {
	t.Parallel()
	now := time.Now()
	newer, older := testSecret(1), testSecret(2)
	secrets := []subscriptions.Secret{{Value: newer}, {Value: older, ExpiresAt: now.Add(time.Second)}}
	m := webhook.Message{Event: &event.Event{ID: "evt_1"}, Body: []byte(`{"a":1}`), At: now}

	during := sign(t, secrets, m)
	if got := strings.Fields(during.Get("webhook-signature")); len(got) != 2 {
		t.Fatalf("got %d signatures, want 2", len(got))
	}
	first := sign(t, secrets[:1], m).Get("webhook-signature")
	if !strings.HasPrefix(during.Get("webhook-signature"), first+" ") {
		t.Error("the newest secret does not sign first")
	}
	for _, secret := range []string{newer, older} {
		if err := verify(t, secret, m.Body, during); err != nil {
			t.Errorf("during the overlap: %v", err)
		}
	}

	m.At = now.Add(time.Second)
	after := sign(t, secrets, m)
	if err := verify(t, newer, m.Body, after); err != nil {
		t.Errorf("after the overlap, new secret: %v", err)
	}
	if err := verify(t, older, m.Body, after); !errors.Is(err, standardwebhooks.ErrNoMatchingSignature) {
		t.Errorf("after the overlap, old secret: got %v, want no matching signature", err)
	}
	m.Body = []byte(`{"a":2}`)
	if err := verify(t, newer, m.Body, after); !errors.Is(err, standardwebhooks.ErrNoMatchingSignature) {
		t.Errorf("another body: got %v, want no matching signature", err)
	}
}

// Hashes are shared between attempts: many at once must not mix.
func TestSignConcurrently(t *testing.T) {
	t.Parallel()
	signer, err := standard().Signer([]subscriptions.Secret{{Value: testSecret(1)}, {Value: testSecret(2)}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			m := webhook.Message{Event: &event.Event{ID: "evt"}, Body: bytes.Repeat([]byte{byte(i)}, 100*i), At: time.Now()}
			for range 50 {
				h := http.Header{}
				if err := signer.Sign(h, m); err != nil {
					t.Error(err)
				}
				if err := verify(t, testSecret(2), m.Body, h); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// What cannot sign, or would sign badly, is an error that shows nothing of the secret.
func TestSignRefuses(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	mismatched := bytes.Clone(private)
	mismatched[63] ^= 1
	encode := base64.StdEncoding.EncodeToString
	for name, value := range map[string]string{
		"empty":                 "",
		"prefix only":           "whsec_",
		"not base64":            "whsec_hush!hush",
		"a dialect's text":      "hush",
		"ed25519 prefix only":   "whsk_",
		"ed25519 too short":     "whsk_hush",
		"ed25519 seed only":     "whsk_" + encode(private[:32]),
		"ed25519 wrong public":  "whsk_" + encode(mismatched),
		"public instead of key": "whpk_" + encode(private[32:]),
	} {
		_, err := standard().Signer([]subscriptions.Secret{{Value: testSecret(1)}, {Value: value}})
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if _, key, _ := strings.Cut(value, "_"); key != "" && strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
	const noSecret = "no secret to sign with"
	if _, err := standard().Signer(nil); err == nil || err.Error() != noSecret {
		t.Errorf("no secret: got %v", err)
	}

	now := time.Now()
	signer, err := standard().Signer([]subscriptions.Secret{{Value: testSecret(1), ExpiresAt: now}})
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.Sign(http.Header{}, webhook.Message{Event: &event.Event{ID: "e"}, At: now}); err == nil || err.Error() != noSecret {
		t.Errorf("all expired: got %v", err)
	}
	for _, id := range []string{"", "a.b", "a b", "a\r\nX: 1", "é", strings.Repeat("x", 129)} {
		if err := signer.Sign(http.Header{}, webhook.Message{Event: &event.Event{ID: id}, At: now.Add(-1)}); err == nil || err.Error() != "the event's id cannot be a header" {
			t.Errorf("id %q: got %v", id, err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	signer, err := standard().Signer([]subscriptions.Secret{{Value: testSecret(1)}})
	if err != nil {
		b.Fatal(err)
	}
	m := webhook.Message{Event: &event.Event{ID: "evt_0198c0de"}, Body: make([]byte, 1024), At: time.Now()}
	h := make(http.Header, 8)
	b.ReportAllocs()
	for b.Loop() {
		if err := signer.Sign(h, m); err != nil {
			b.Fatal(err)
		}
	}
}
