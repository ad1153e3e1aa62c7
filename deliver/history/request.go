package history

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// exchanged shows how the request went.
func (j *attemptJSON) exchanged(a AttemptEntry) {
	e := outcome.UnpackExchange(a.Exchange)
	j.Timings = timingsJSON{
		DNS: shownStep(e.DNS), Connect: shownStep(e.Connect), TLS: shownStep(e.TLS), FirstByte: shownStep(e.FirstByte),
		Total: milliseconds(time.Duration(a.Micros) * time.Microsecond),
	}
	if e.Connection != "" {
		j.Connection = new(connection(e.Connection))
	}
	if e.Remote.IsValid() {
		j.RemoteAddress = new(e.Remote.String())
	}
	if len(a.Headers) > 0 && json.Unmarshal(a.Headers, &j.ResponseHeaders) != nil {
		j.ResponseHeaders = nil
	}
}

func shownStep(took time.Duration) *float64 {
	if took <= 0 {
		return nil
	}
	return new(milliseconds(took))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// showRequests adds by which URL and with which headers attempts were sent.
func (r *routes) showRequests(ctx context.Context, of ledger.Entry, attempts []attemptJSON) error {
	if r.past == nil {
		return nil
	}
	sent := map[int64]*subscriptions.Sent{} // by revision; nil for those that are not known any more
	for i := range attempts {
		a := &attempts[i]
		if a.Revision == nil {
			continue
		}
		sub, ok := sent[*a.Revision]
		if !ok {
			then, err := r.past.At(ctx, of.Tenant, of.Subscription, *a.Revision)
			if err != nil && !errors.Is(err, changes.ErrNone) {
				return err
			}
			if err == nil {
				sub = &then
			}
			sent[*a.Revision] = sub
		}
		if sub != nil {
			a.URL = &sub.URL
			a.RequestHeaders = r.requestHeaders(ctx, of, *sub, a.StartedAt)
		}
	}
	return nil
}

// requestHeaders are those of an attempt; nil where the subscription had none that could be sent.
func (r *routes) requestHeaders(ctx context.Context, of ledger.Entry, sub subscriptions.Sent, at time.Time) map[string]string {
	e := &event.Event{UID: of.EventUID, ID: of.EventID, Tenant: of.Tenant, Type: of.EventType}
	unknown := false // of which content type the event is
	if r.requests.NeedsEvent(sub) {
		if found, err := r.events.Get(ctx, of.EventUID, of.Seq); err == nil {
			e = found
		} else {
			unknown = true
		}
	}
	headers, err := r.requests.Headers(sub, webhook.Message{Event: e, At: at})
	if err != nil {
		return nil
	}
	if unknown {
		delete(headers, "Content-Type")
	}
	return headers
}

// requestRoute adds the operation that shows a body.
func (r *routes) requestRoute(to huma.API, op huma.Operation) {
	api.Scope("deliveries:read events:read")(&op)
	op.Errors = []int{http.StatusGone}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The body, of whatever content type it was sent with",
		Content:     map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}}
	huma.Register(to, op, r.request)
}

type requestOutput struct {
	ContentType string `header:"Content-Type"`
	// The type is a tenant's choice: a browser must neither show nor run the body.
	Disposition string `header:"Content-Disposition"`
	Policy      string `header:"Content-Security-Policy"`
	Body        []byte
}

// request returns the body of the last attempt's request.
func (r *routes) request(ctx context.Context, in *IDInput) (*requestOutput, error) {
	e, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := r.mayReadData(ctx, e); err != nil {
		return nil, err
	}
	if e.Attempts == 0 || r.past == nil {
		return nil, api.NotFound()
	}
	leave, err := r.heavy.Enter(ctx, e.Tenant)
	if err != nil {
		return nil, err
	}
	defer leave()
	return r.body(ctx, e)
}

// body renders the body again: the event's bytes are kept once, and rendered to the same bytes each time.
func (r *routes) body(ctx context.Context, e ledger.Entry) (*requestOutput, error) {
	if !e.Revision.Valid {
		return nil, api.Gone("the subscription's definition by which it was sent is not known")
	}
	sub, err := r.past.At(ctx, e.Tenant, e.Subscription, e.Revision.V)
	if errors.Is(err, changes.ErrNone) {
		return nil, api.Gone("the subscription's definition by which it was sent is no longer kept")
	}
	if err != nil {
		return nil, err
	}
	sent, err := r.events.Sendable(ctx, e.EventUID, e.Seq)
	if errors.Is(err, event.ErrGone) {
		return nil, api.Gone("the event's data is no longer kept")
	}
	if err != nil {
		return nil, err
	}
	body, contentType, err := r.requests.Body(sub, sent)
	if err != nil {
		return nil, api.NotFound() // Nothing could be sent, for the same reason.
	}
	return &requestOutput{
		ContentType: contentType, Disposition: `attachment; filename="` + e.ID.String() + `"`, Policy: "sandbox", Body: body,
	}, nil
}

// mayReadData refuses a caller that lacks a scope of the event's type.
func (r *routes) mayReadData(ctx context.Context, e ledger.Entry) error {
	if r.types == nil {
		return nil
	}
	if _, err := r.types.Fresh(ctx); err != nil {
		return err
	}
	if !r.types.Covers(subscriptions.ViewOf(ctx).Scopes, e.Tenant, e.EventType) {
		return api.Forbidden("the key lacks a scope that the event's type demands")
	}
	return nil
}
