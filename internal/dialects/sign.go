package dialects

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Signer sets a vendor's headers. Vendors have one secret, of any text, and sign the body alone: where a
// secret is set, Header gets Prefix and the lower-case hex HMAC-SHA256 of the body.
type Signer struct {
	Header, Prefix string
	// EventHeader and IDHeader, where set, name the event's type and id.
	EventHeader, IDHeader string

	key []byte // none: unsigned
}

// With is the signer of one subscription; it is a deliver.Format's Signer.
func (s Signer) With(secrets []subscriptions.Secret) (webhook.Signer, error) {
	if len(secrets) > 0 {
		s.key = []byte(secrets[0].Value)
	}
	return s, nil
}

// Sign sets the headers of one attempt.
func (s Signer) Sign(h http.Header, m webhook.Message) error {
	if s.EventHeader != "" {
		h.Set(s.EventHeader, m.Event.Type)
	}
	if s.IDHeader != "" {
		h.Set(s.IDHeader, m.Event.ID)
	}
	if len(s.key) > 0 && s.Header != "" {
		mac := hmac.New(sha256.New, s.key)
		mac.Write(m.Body)
		h.Set(s.Header, s.Prefix+hex.EncodeToString(mac.Sum(nil)))
	}
	return nil
}
