package demo

import (
	"io"
	"net/http"
	"strings"
	"sync"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// receiver is where the demo's webhooks go. It checks every signature, as a customer's receiver should.
type receiver struct {
	mu      sync.Mutex
	secrets map[string]*standardwebhooks.Webhook // by path
	taken   map[demoDelivery]int                 // requests answered with success
	refused map[string]int                       // by path: requests answered with an error, as the demo wants it
	invalid int                                  // requests whose signature is wrong
}

// demoDelivery is one event at one endpoint.
type demoDelivery struct{ path, id string }

// The endpoints that misbehave: so little that no breaker opens, or the demo would take minutes.
const (
	flakyPath  = "/flaky"  // fails twice, then works
	brokenPath = "/broken" // never works
)

func newReceiver() *receiver {
	return &receiver{secrets: map[string]*standardwebhooks.Webhook{}, taken: map[demoDelivery]int{}, refused: map[string]int{}}
}

// expect tells the receiver the secret of a path.
func (r *receiver) expect(path, secret string) error {
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
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
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
	if path == brokenPath || path == flakyPath && r.refused[path] < 2 {
		r.refused[path]++
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	}
	if id := req.Header.Get("Webhook-Id"); isSample(id) {
		r.taken[demoDelivery{path, id}]++
	}
	w.WriteHeader(http.StatusNoContent)
}

// demoCounts is what the receiver saw.
type demoCounts struct {
	taken   int // deliveries that were answered with success
	doubles int // successes beyond the first of a delivery
	refused int
	invalid int
}

func (r *receiver) counts() demoCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := demoCounts{taken: len(r.taken), refused: r.refused[flakyPath] + r.refused[brokenPath], invalid: r.invalid}
	for _, n := range r.taken {
		c.doubles += n - 1
	}
	return c
}
