package deliver

import (
	"net/http"
	"time"
)

// Message is what a Signer signs.
type Message struct {
	Event *Event
	Body  []byte
	At    time.Time // the attempt's
}

// Signer sets the headers of an attempt that depend on its bytes and time.
type Signer interface {
	Sign(h http.Header, m Message) error
}
