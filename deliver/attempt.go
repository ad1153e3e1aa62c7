package deliver

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Attempt is one HTTP request to make. The event and the subscription are only read.
type Attempt struct {
	Event        *Event
	Subscription *subscriptions.Subscription
	Delivery     uuid.UUID
	Number       int // from 1
	// Bodies keeps the event's rendered bytes for all attempts that share it; one for each event, made with
	// new(Bodies). Nil renders anew, to the same bytes.
	Bodies *Bodies
}

// Result is what became of an attempt.
type Result struct {
	StartedAt  time.Time
	Duration   time.Duration // to the end of the response's body, or of what is read of it
	Status     int           // 0 where no complete header came
	RetryAfter time.Duration // what a 429, 502, 503 or 504 asked for, at most 24 h; 0 where nothing
	Err        error         // nil where an answer came and says it all; else an *Error
	Response   []byte        // at most 16 KiB, fit to be stored and shown: see sanitize
	Reason     Reason
}

// Poster makes attempts. Many goroutines may use one.
type Poster struct {
	transport http.RoundTripper
	cfg       PosterConfig
	now       func() time.Time
}

// PosterConfig bounds attempts.
type PosterConfig struct {
	Formats []Format // beside the three of Fanfare; a dialect's
}

// NewPoster returns a Poster that sends by client's transport: the guarded one of internal/egress.
func NewPoster(client *http.Client, cfg PosterConfig, now func() time.Time) (*Poster, error) {
	return &Poster{transport: client.Transport, cfg: cfg, now: now}, nil
}

// Send makes one attempt. It never follows a redirect and never repeats a request of which a byte was written.
func (p *Poster) Send(ctx context.Context, a Attempt) Result {
	return Result{StartedAt: p.now(), Reason: ReasonConfig}
}
