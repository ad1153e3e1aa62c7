package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Attempt is one HTTP request to make. The event and the subscription are only read.
type Attempt struct {
	Event        *event.Event
	Subscription *subscriptions.Subscription
	Delivery     uuid.UUID
	Number       int // from 1
	Test         bool
	// TraceParent goes to the receiver; empty means the event's own.
	TraceParent string
	// Bodies keeps the event's rendered bytes for all attempts that share it; one for each event, made with
	// new(Bodies). Nil renders anew, to the same bytes.
	Bodies *Bodies
}

// Result is what became of an attempt.
type Result struct {
	StartedAt  time.Time
	Duration   time.Duration // to the end of the response's body, or of the part that is read
	Status     int           // 0 where no complete header came
	RetryAfter time.Duration // what a 429, 502, 503 or 504 asked for, at most 24 h; 0 where nothing
	Err        error         // an *Error; nil where the status says it all
	Response   []byte        // at most 16 KiB, fit to be stored and shown: see sanitize
	// ResponseHeaders are those of an attempt that failed or of a test, as a JSON object of at most about 4 KiB; nil of others.
	ResponseHeaders []byte
	Reason          outcome.Reason
	Exchange        egress.Exchange
	// Resent counts the requests that were made again within the attempt, because the connection was lost
	// before the receiver can have taken it up.
	Resent int
	// Elsewhere is the host that failed where that is not the receiver's, to which then nothing was sent: the token endpoint's.
	Elsewhere string

	test    bool
	headers http.Header // of the response; nil where none came
}

// PosterConfig bounds attempts. Its zero value is no good: begin with DefaultPosterConfig.
type PosterConfig struct {
	Formats    []Format      // what a subscription's payload_format may name
	Plans      int           // subscriptions whose requests are kept prepared, 1 to 2 KiB each
	Identities int           // client certificates whose connections are kept
	BodyTime   time.Duration // for reading a response's body once its header is complete
	DrainSize  int64         // bytes read beyond the kept ones, so that the connection can be used again
}

// DefaultPosterConfig has Fanfare's own formats and the limits that api.md promises.
func DefaultPosterConfig() PosterConfig {
	return PosterConfig{Formats: Formats(), Plans: 8192, Identities: 256, BodyTime: 5 * time.Second, DrainSize: 64 << 10}
}

// Poster makes attempts. Many goroutines may use one.
type Poster struct {
	transport  http.RoundTripper
	identities *identities
	cfg        PosterConfig
	formats    map[string]*Format
	plans      *lru.Cache[uuid.UUID, *plan]
	planning   sync.Mutex // of plans that hold more than what can be made anew
	buffers    sync.Pool  // of *[maxResponse]byte, for reading responses
	resent     atomic.Uint64
	now        func() time.Time
}

// NewPoster returns a Poster that sends through client, the guarded one of internal/egress. It uses the
// client's transport alone: what http.Client adds (redirects, cookies, credentials of the URL) is unwanted.
func NewPoster(client *http.Client, cfg PosterConfig, now func() time.Time) (*Poster, error) {
	if client.Transport == nil {
		return nil, errors.New("make poster: the client has no transport of its own, so nothing guards it")
	}
	plans, err := lru.New[uuid.UUID, *plan](cfg.Plans)
	if err != nil {
		return nil, fmt.Errorf("make poster: %w", err)
	}
	identities, err := newIdentities(client, cfg.Identities)
	if err != nil {
		return nil, fmt.Errorf("make poster: %w", err)
	}
	p := &Poster{
		transport:  client.Transport,
		identities: identities,
		cfg:        cfg,
		formats:    byName(cfg.Formats),
		plans:      plans,
		buffers:    sync.Pool{New: func() any { return new([maxResponse]byte) }},
		now:        now,
	}
	return p, nil
}

// Resent counts the requests that were made again within their attempt; see Result.
func (p *Poster) Resent() uint64 { return p.resent.Load() }

// Close ends the connections that are kept for client certificates. The client's own are not the Poster's to end.
func (p *Poster) Close() { p.identities.close() }

// Send makes one attempt: one POST, or a second one with a new token where the receiver refused that of the first with 401. It follows no redirect, and repeats nothing that a receiver may have
// seen. It returns within the subscription's timeout whatever the receiver does. When ctx ends first, the
// reason is ReasonCancelled and nobody knows whether the event arrived.
func (p *Poster) Send(ctx context.Context, a Attempt) Result {
	r := Result{StartedAt: p.now(), test: a.Test}
	plan, err := p.plan(a.Subscription)
	if err != nil {
		r.fail(outcome.ReasonConfig, err)
		return r
	}
	body, err := a.Bodies.of(plan.format, a.Event)
	if err != nil {
		r.fail(outcome.ReasonConfig, fmt.Errorf("render %s: %w", plan.format.Name, err))
		return r
	}
	header, err := plan.ownHeaders(Message{Event: a.Event, Body: body, At: r.StartedAt, TraceParent: cmp.Or(a.TraceParent, a.Event.TraceParent)})
	if err != nil {
		r.fail(outcome.ReasonConfig, fmt.Errorf("sign: %w", err))
		return r
	}
	post := egress.Post{Header: header, Body: body, Until: time.Now().Add(plan.timeout)}
	if plan.route.Takes(&post) {
		p.exchangeByRoute(ctx, plan, &post, &r)
	} else {
		p.exchangeByClient(ctx, plan, &post, &r)
	}
	r.Duration = p.now().Sub(r.StartedAt)
	return r
}

// judgeHeader keeps what the header says beside the status.
func (r *Result) judgeHeader(resp *http.Response) {
	switch {
	case r.Reason == outcome.ReasonProtocol:
		r.fail(outcome.ReasonProtocol, fmt.Errorf("status %d is no answer", resp.StatusCode))
	case r.Reason == outcome.ReasonRedirect:
		if to := resp.Header.Get("Location"); to != "" {
			r.fail(outcome.ReasonRedirect, fmt.Errorf("redirect to %s is not followed", redactLocation(to)))
		}
	case HeedsRetryAfter(resp.StatusCode):
		r.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), r.StartedAt)
	}
}

// lost records that no complete header came, and whether the time was over then.
func (r *Result) lost(parent context.Context, late bool, err error, progress *egress.Progress) {
	failed, ok := errors.AsType[*tokenError](err)
	switch {
	case parent.Err() != nil:
		r.fail(outcome.ReasonCancelled, context.Cause(parent))
	case ok:
		r.fail(failed.reason, failed)
		r.Elsewhere = failed.host
	case late:
		r.fail(outcome.ReasonTimeout, errTimeout)
	default:
		r.fail(classify(err), err)
	}
	if r.Reason == outcome.ReasonTimeout {
		r.late(progress)
	}
}

// late says what a request spent its time on that was not answered in time: if no connection came about, nobody knows
// whether the receiver is slow.
func (r *Result) late(progress *egress.Progress) {
	if reason := outcome.Reason(progress.Class()); reason != outcome.ReasonTimeout {
		r.fail(reason, errNoConnection)
	}
}

func (r *Result) fail(reason outcome.Reason, err error) {
	r.Reason = reason
	r.Err = newError(reason, err)
}

// redactLocation keeps of a redirect's target what helps to mend the URL: no credentials, no query.
func redactLocation(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return "an address that cannot be read"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
