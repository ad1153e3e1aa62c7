package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fanfarehq/fanfare/internal/egress"
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
	Err        error         // an *Error; nil where the status says it all
	Response   []byte        // at most 16 KiB, fit to be stored and shown: see sanitize
	Reason     Reason
	// Resent counts the requests that were made again within the attempt, because the connection was lost
	// before the receiver can have taken it up.
	Resent int
	// Elsewhere is the host that failed where that is not the receiver's, to which then nothing was sent: the token endpoint's.
	Elsewhere string
}

// PosterConfig bounds attempts. Its zero value is no good: begin with DefaultPosterConfig.
type PosterConfig struct {
	Formats    []Format      // what a subscription's payload_format may name
	Plans      int           // subscriptions whose requests are kept prepared, 1 to 2 KiB each
	Identities int           // client certificates whose connections are kept
	BodyTime   time.Duration // for reading a response's body once its header is complete
	DrainSize  int64         // bytes read beyond what is kept, so that the connection can be used again
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
		formats:    make(map[string]*Format, len(cfg.Formats)),
		plans:      plans,
		buffers:    sync.Pool{New: func() any { return new([maxResponse]byte) }},
		now:        now,
	}
	for i := range cfg.Formats {
		p.formats[cfg.Formats[i].Name] = &cfg.Formats[i]
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
	r := Result{StartedAt: p.now()}
	plan, err := p.plan(a.Subscription)
	if err != nil {
		r.fail(ReasonConfig, err)
		return r
	}
	body, err := a.Bodies.of(plan.format, a.Event)
	if err != nil {
		r.fail(ReasonConfig, fmt.Errorf("render %s: %w", plan.format.Name, err))
		return r
	}
	header, err := plan.headers(Message{Event: a.Event, Body: body, At: r.StartedAt})
	if err != nil {
		r.fail(ReasonConfig, fmt.Errorf("sign: %w", err))
		return r
	}
	out := request{header: header, body: body, progress: new(egress.Progress), transport: p.transport, conceal: plan.conceal}
	p.exchange(ctx, plan, &out, &r)
	out.conceal.result(&r)
	r.Duration = p.now().Sub(r.StartedAt)
	return r
}

// request is what differs between two requests of one plan.
type request struct {
	header    http.Header
	body      []byte
	progress  *egress.Progress
	transport http.RoundTripper
	conceal   *conceal // nil for a subscription without auth
}

// exchange sends the request and reads the answer, all of it under one deadline.
func (p *Poster) exchange(parent context.Context, plan *plan, out *request, r *Result) {
	ctx, cancel := context.WithTimeoutCause(parent, plan.timeout, errTimeout)
	defer cancel()
	if plan.certificate != nil {
		transport, id, err := p.identities.take(plan.certificate)
		if err != nil {
			r.fail(ReasonConfig, err)
			return
		}
		defer p.identities.release(id)
		out.transport = transport
	}
	var resp *http.Response
	var err error
	if plan.tokens == nil {
		resp, err = p.post(ctx, plan, out, r)
	} else {
		resp, err = p.postWithToken(ctx, plan, out, r)
	}
	if err != nil {
		r.lost(parent, ctx, err)
		if r.Reason == ReasonTimeout {
			r.late(out.progress)
		}
		return
	}
	r.Status = resp.StatusCode
	r.Reason = reasonOf(resp.StatusCode)
	r.judgeHeader(resp)
	if r.Reason == ReasonProtocol {
		resp.Body.Close() // nothing that follows can be relied upon; 101 has no body but the bare connection
		return
	}
	kept, err := p.read(resp, cancel, out.conceal)
	r.Response = kept
	if r.Reason == ReasonOK && err != nil && parent.Err() == nil && breaksFraming(err) {
		r.fail(ReasonProtocol, err)
	}
}

// post makes the request.
func (p *Poster) post(ctx context.Context, plan *plan, out *request, r *Result) (*http.Response, error) {
	req := plan.request.WithContext(egress.WithProgress(ctx, out.progress))
	req.Header = out.header
	req.ContentLength = int64(len(out.body))
	// A bytes.Reader in a NopCloser is what net/http writes together with the header, in one packet.
	req.Body = io.NopCloser(bytes.NewReader(out.body))
	resends := resends{body: out.body, most: plan.resends}
	req.GetBody = resends.next
	resp, err := out.transport.RoundTrip(req)
	if resends.made > 0 {
		r.Resent += resends.made
		p.resent.Add(uint64(resends.made))
	}
	return resp, err
}

// judgeHeader keeps what the header says beside the status.
func (r *Result) judgeHeader(resp *http.Response) {
	switch {
	case r.Reason == ReasonProtocol:
		r.fail(ReasonProtocol, fmt.Errorf("status %d is no answer", resp.StatusCode))
	case r.Reason == ReasonRedirect:
		if to := resp.Header.Get("Location"); to != "" {
			r.fail(ReasonRedirect, fmt.Errorf("redirect to %s is not followed", redactLocation(to)))
		}
	case heedsRetryAfter(resp.StatusCode):
		r.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), r.StartedAt)
	}
}

// lost records that no complete header came.
func (r *Result) lost(parent, ctx context.Context, err error) {
	failed, ok := errors.AsType[*tokenError](err)
	switch {
	case parent.Err() != nil:
		r.fail(ReasonCancelled, context.Cause(parent))
	case ok:
		r.fail(failed.reason, failed)
		r.Elsewhere = failed.host
	case ctx.Err() != nil:
		r.fail(ReasonTimeout, errTimeout)
	default:
		r.fail(classify(err), err)
	}
}

// late says what a request spent its time on that was not answered in time: if no connection came about, nobody knows
// whether the receiver is slow.
func (r *Result) late(progress *egress.Progress) {
	if reason := Reason(progress.Class()); reason != ReasonTimeout {
		r.fail(reason, errNoConnection)
	}
}

func (r *Result) fail(reason Reason, err error) {
	r.Reason = reason
	r.Err = newError(reason, err)
}

// read takes what is worth keeping of a response, and a little more where that lets the connection be used
// again. It returns an error only where the body did not end as it should. Stop ends the request.
func (p *Poster) read(resp *http.Response, stop context.CancelFunc, conceal *conceal) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength == 0 {
		return nil, nil
	}
	timer := time.AfterFunc(p.cfg.BodyTime, stop)
	defer timer.Stop()
	buf := p.buffers.Get().(*[maxResponse]byte)
	defer p.buffers.Put(buf)
	n, err := fill(resp.Body, buf[:])
	kept := sanitize(conceal.bytes(buf[:n], err == nil), err == nil)
	if err == nil && resp.ContentLength <= maxResponse+p.cfg.DrainSize {
		err = drain(resp.Body, buf[:], p.cfg.DrainSize)
	}
	if err == nil || errors.Is(err, io.EOF) {
		return kept, nil
	}
	return kept, err
}

// fill reads until buf is full or the reader ends. Unlike io.ReadFull it leaves the error as it is: a clean
// end and a broken one must stay apart.
func fill(from io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = from.Read(buf[n:])
		n += m
	}
	return n, err
}

// drain reads on until the end or for size bytes.
func drain(from io.Reader, scratch []byte, size int64) (err error) {
	for size > 0 && err == nil {
		var n int
		n, err = from.Read(scratch)
		size -= int64(n)
	}
	return err
}

// redactLocation keeps of a redirect's target what helps to mend the URL: no credentials, no query.
func redactLocation(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return "an address that cannot be read"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
