package deliver

import (
	"sync"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Format is how an event looks on the wire.
type Format struct {
	Name        string // the payload_format of a subscription
	ContentType string
	// Body returns the event's bytes, always the same for the same event. It may return e.Data itself:
	// nobody writes to what it returns.
	Body func(e *Event) ([]byte, error)
	// Signer reads a subscription's secrets.
	Signer func(secrets []subscriptions.Secret) (Signer, error)
}

// Bodies keeps what one event is rendered to, for all its targets and attempts; the zero value is ready.
type Bodies struct {
	mu sync.Mutex
}
