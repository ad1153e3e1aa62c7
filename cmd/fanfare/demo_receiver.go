package main

import (
	"io"
	"net/http"
	"strings"
	"sync"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// demoReceiver is where the demo's webhooks go. It checks every signature, as a customer's receiver should.
type demoReceiver struct {
	mu      sync.Mutex
	secrets map[string]*standardwebhooks.Webhook // by path
	seen    map[demoDelivery]int                 // requests with a valid signature
	taken   int                                  // requests answered with success
	refused int                                  // requests answered with an error, as the demo wants it
	invalid int                                  // requests whose signature is wrong
}

// demoDelivery is one event at one endpoint.
type demoDelivery struct{ path, id string }

// The endpoints that misbehave.
const (
	flakyPath  = "/flaky"  // fails twice for each event, then takes it
	brokenPath = "/broken" // never works
)

func newDemoReceiver() *demoReceiver {
	return &demoReceiver{secrets: map[string]*standardwebhooks.Webhook{}, seen: map[demoDelivery]int{}}
}

// expect tells the receiver the secret of a path.
func (r *demoReceiver) expect(path, secret string) error {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets[path] = verifier
	return nil
}

// ServeHTTP answers one webhook.
func (r *demoReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	path := strings.TrimSuffix(req.URL.Path, "/")
	verifier := r.secrets[path]
	if verifier == nil || verifier.Verify(body, req.Header) != nil {
		r.invalid++
		http.Error(w, "wrong signature", http.StatusUnauthorized)
		return
	}
	delivery := demoDelivery{path, req.Header.Get("Webhook-Id")}
	r.seen[delivery]++
	if path == brokenPath || path == flakyPath && r.seen[delivery] <= 2 {
		r.refused++
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	}
	r.taken++
	w.WriteHeader(http.StatusNoContent)
}

// demoCounts is what the receiver saw.
type demoCounts struct {
	taken, refused, invalid int
	doubles                 int // successes beyond the first of a delivery
}

func (r *demoReceiver) counts() demoCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := demoCounts{taken: r.taken, refused: r.refused, invalid: r.invalid}
	for delivery, n := range r.seen {
		switch delivery.path {
		case brokenPath:
		case flakyPath:
			c.doubles += max(n-3, 0)
		default:
			c.doubles += n - 1
		}
	}
	return c
}
