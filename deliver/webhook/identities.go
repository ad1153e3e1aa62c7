package webhook

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// identities keeps a client for each client certificate that is in use, with connections of its own: a connection that
// was made with one certificate is never used for another, or for none. The client that was not used for longest goes.
type identities struct {
	base *http.Client

	mu   sync.Mutex
	kept *simplelru.LRU[identityKey, *identity]
}

// identityKey is a digest of tenant, certificate and key.
type identityKey [sha256.Size]byte

// certificate is what a plan has of a client certificate.
type certificate struct {
	key  identityKey
	pair tls.Certificate
}

// identity is one client. Its fields are guarded by the lock of identities.
type identity struct {
	client *http.Client
	users  int  // requests under way
	gone   bool // no longer kept
}

func newIdentities(base *http.Client, size int) (*identities, error) {
	ids := &identities{base: base}
	var err error
	ids.kept, err = simplelru.NewLRU(size, func(_ identityKey, id *identity) {
		id.gone = true
		// Whoever is in flight closes what it leaves behind: see release.
		id.client.CloseIdleConnections()
	})
	return ids, err
}

func newCertificate(sub *subscriptions.Subscription) (*certificate, error) {
	if sub.Certificate == nil {
		return nil, nil
	}
	pair, err := sub.Certificate.TLS()
	if err != nil {
		return nil, err
	}
	digest := sha256.New()
	for _, text := range []string{sub.Tenant, sub.Certificate.Certificate, sub.Certificate.Key} {
		fmt.Fprintf(digest, "%d %s", len(text), text)
	}
	return &certificate{key: identityKey(digest.Sum(nil)), pair: pair}, nil
}

// take returns the transport of a certificate; release it when the response was read.
func (ids *identities) take(c *certificate) (http.RoundTripper, *identity, error) {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	id, ok := ids.kept.Get(c.key)
	if !ok {
		client, err := egress.Identify(ids.base, c.pair)
		if err != nil {
			return nil, nil, err
		}
		id = &identity{client: client}
		ids.kept.Add(c.key, id)
	}
	id.users++
	return id.client.Transport, id, nil
}

func (ids *identities) release(id *identity) {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	if id.users--; id.gone && id.users == 0 {
		id.client.CloseIdleConnections()
	}
}

// drop forgets the certificate of a subscription that has another one now.
func (ids *identities) drop(key identityKey) {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	ids.kept.Remove(key)
}

func (ids *identities) close() {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	ids.kept.Purge()
}
