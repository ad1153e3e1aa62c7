package babelfor

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/dialects"
	published "github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/survive"
)

// The bounds of a log. A delivery beyond the newest so many is in the ledger and not here.
const (
	maxEvents = 10_000
	// maxSearched is how many of them a filter that looks into payloads or responses examines: each payload is read
	// from the stream.
	maxSearched = 1000
	// maxIncluded is how many events of a subscription include=webhookEvents shows.
	maxIncluded = 100
	// maxPayloads is how many bytes of payloads and responses one answer holds; further ones are null.
	maxPayloads = 16 << 20
	// chunk is how many payloads are in memory at once while they are searched.
	chunk = 50
	// readers is how many payloads are read at once.
	readers = 8
)

// event is the vendor's JSON of a delivery.
type event struct {
	logged       history.Logged
	ID           int32   `json:"id"`
	Subscription int32   `json:"webhookSubscriptionId"`
	EventType    string  `json:"eventType"`
	Payload      *string `json:"payload"`
	StatusCode   *int    `json:"statusCode"`
	Response     *string `json:"response"`
	ErrorMessage *string `json:"errorMessage"`
	IsSuccess    bool    `json:"isSuccess"`
	RetryCount   int     `json:"retryCount"`
	SentAt       date    `json:"sentAt"`
	NextRetryAt  date    `json:"nextRetryAt"`
	CreatedAt    date    `json:"createdAt"`
}

// idOf is what the vendor's clients, which hold ids in an int32, know a delivery's number by. All tenants' deliveries are
// counted by one sequence, which goes further: two of a log's would have to be two thousand million deliveries apart to
// have the same id.
func idOf(number int64) int32 { return int32(number & math.MaxInt32) }

// showEvent makes the vendor's JSON, without payload and response.
func showEvent(d history.Logged, subscription int32) event {
	shown := event{
		logged:       d,
		ID:           idOf(d.Number),
		Subscription: subscription,
		EventType:    d.EventType,
		IsSuccess:    d.State == string(outcome.Delivered),
		RetryCount:   max(0, d.Attempts-1),
		NextRetryAt:  date{d.DueAt},
		CreatedAt:    date{d.CreatedAt},
	}
	if d.Last != nil {
		shown.SentAt = date{d.Last.StartedAt}
		if d.Last.Status != 0 {
			shown.StatusCode = &d.Last.Status
		}
		if d.Last.Error != "" {
			shown.ErrorMessage = &d.Last.Error
		}
	}
	if ended := d.State == string(outcome.Cancelled); ended && shown.ErrorMessage == nil {
		why := string(d.Reason)
		shown.ErrorMessage = &why
	}
	return shown
}

var eventFields = fields[event]{
	"id":                    {name: "id", kind: intKind, get: func(e *event) any { return int64(e.ID) }},
	"webhooksubscriptionid": {name: "webhookSubscriptionId", kind: intKind, get: func(e *event) any { return int64(e.Subscription) }},
	"eventtype":             {name: "eventType", kind: textKind, get: func(e *event) any { return e.EventType }},
	"payload":               {name: "payload", kind: textKind, costly: true, get: func(e *event) any { return text(e.Payload) }},
	"statuscode": {name: "statusCode", kind: intKind, get: func(e *event) any {
		if e.StatusCode == nil {
			return nil
		}
		return int64(*e.StatusCode)
	}},
	"response":     {name: "response", kind: textKind, costly: true, get: func(e *event) any { return text(e.Response) }},
	"errormessage": {name: "errorMessage", kind: textKind, get: func(e *event) any { return text(e.ErrorMessage) }},
	"issuccess":    {name: "isSuccess", kind: boolKind, get: func(e *event) any { return e.IsSuccess }},
	"retrycount":   {name: "retryCount", kind: intKind, get: func(e *event) any { return int64(e.RetryCount) }},
	"sentat":       {name: "sentAt", kind: timeKind, get: func(e *event) any { return e.SentAt.value() }},
	"nextretryat":  {name: "nextRetryAt", kind: timeKind, get: func(e *event) any { return e.NextRetryAt.value() }},
	"createdat":    {name: "createdAt", kind: timeKind, get: func(e *event) any { return e.CreatedAt.value() }},
}

// events answers a subscription's log.
func (b *babelfor) events(c *dialects.Call) error {
	if err := c.Require(dialects.ReadDeliveries); err != nil {
		return err
	}
	s, err := b.one(c)
	if err != nil {
		return err
	}
	q, err := parseQuery(c.R.URL.Query(), eventFields, "-id")
	if err != nil {
		return dialects.BadRequest("%v", err)
	}
	if q.costly && !c.Has(dialects.ReadEvents) {
		return c.Require(dialects.ReadEvents) // A filter would tell of payloads.
	}
	log, err := b.newest(c.R.Context(), show(s), maxEvents)
	if err != nil {
		return err
	}
	if q.costly {
		log, err = b.search(c, log, q.pass)
	} else {
		log = q.filter(log)
	}
	if err != nil {
		return err
	}
	page, total := q.page(log)
	if q.prints("payload") || q.prints("response") {
		room := maxPayloads
		if err := b.fill(c, page, &room); err != nil {
			return err
		}
	}
	shown, err := selectKeys(page, q.selected)
	if err != nil {
		return err
	}
	reply(c, eventsAnswer{shown, total, done})
	return nil
}

// newest is a subscription's log without payloads and responses, the newest first.
func (b *babelfor) newest(ctx context.Context, s subscription, limit int) ([]event, error) {
	list, err := b.deps.Deliveries.Newest(ctx, s.uuid, limit)
	if err != nil {
		return nil, err
	}
	log := make([]event, len(list))
	for i, d := range list {
		log[i] = showEvent(d, s.ID)
	}
	return log, nil
}

// search filters a log by payloads or responses, of which it keeps none.
func (b *babelfor) search(c *dialects.Call, log []event, pass predicate[event]) ([]event, error) {
	found := []event{}
	for some := range slices.Chunk(log[:min(len(log), maxSearched)], chunk) {
		room := maxPayloads
		if err := b.fill(c, some, &room); err != nil {
			return nil, err
		}
		for _, e := range some {
			if pass(&e) {
				e.Payload, e.Response = nil, nil
				found = append(found, e)
			}
		}
		for i := range some {
			some[i].Payload, some[i].Response = nil, nil
		}
	}
	return found, nil
}

// fill reads payloads and responses as long as there is room for their bytes.
func (b *babelfor) fill(c *dialects.Call, log []event, room *int) error {
	ctx := c.R.Context()
	for some := range slices.Chunk(log, chunk) {
		if *room <= 0 {
			return nil
		}
		payloads, err := b.payloads(c, some)
		if err != nil {
			return err
		}
		ids := make([]uuid.UUID, len(some))
		for i := range some {
			ids[i] = some[i].logged.ID
		}
		responses, err := b.deps.Deliveries.Responses(ctx, ids)
		if err != nil {
			return err
		}
		for i := range some {
			keep(&some[i].Payload, payloads[i], room)
			keep(&some[i].Response, responses[ids[i]], room)
		}
	}
	return nil
}

// keep shows bytes if there is room for them.
func keep(field **string, bytes []byte, room *int) {
	if len(bytes) == 0 {
		return
	}
	if *room -= len(bytes); *room >= 0 {
		shown := string(bytes)
		*field = &shown
	}
}

// payloads reads the data of events; nil of those that are gone, and of those that the caller may not read.
func (b *babelfor) payloads(c *dialects.Call, log []event) ([][]byte, error) {
	all := make([][]byte, len(log))
	if !c.Has(dialects.ReadEvents) {
		return all, nil
	}
	closed, err := b.closedTypes(c)
	if err != nil {
		return nil, err
	}
	read, ctx := errgroup.WithContext(c.R.Context())
	read.SetLimit(readers)
	for i := range log {
		if closed[log[i].EventType] {
			continue
		}
		read.Go(func() error {
			err := survive.Do(func() (err error) {
				all[i], err = b.deps.Deliveries.Data(ctx, log[i].logged)
				return err
			})
			if errors.Is(err, published.ErrGone) {
				return nil
			}
			return err
		})
	}
	return all, read.Wait()
}

// deleteEvent takes a delivery off the log, and cancels it if it is pending.
func (b *babelfor) deleteEvent(c *dialects.Call) error {
	if err := c.Require(dialects.WriteDeliveries); err != nil {
		return err
	}
	s, err := b.one(c)
	if err != nil {
		return err
	}
	number, ok := c.Number("event")
	if !ok {
		return dialects.BadRequest("The event's id must be a number.")
	}
	log, err := b.newest(c.R.Context(), show(s), maxEvents)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(log, func(e event) bool { return int64(e.ID) == number })
	if at < 0 {
		return dialects.NotFound("Event not found.")
	}
	// One that another client has just deleted is not there any more.
	found, err := b.deps.Deliveries.Hide(c.R.Context(), s.ID, log[at].logged.Number, maxEvents)
	if err == nil && !found {
		err = dialects.NotFound("Event not found.")
	}
	if err != nil {
		return err
	}
	reply(c, done)
	return nil
}

// closedTypes are the event types that demand a scope which the caller lacks.
func (b *babelfor) closedTypes(c *dialects.Call) (map[string]bool, error) {
	types, err := b.deps.Store.ScopedTypes(c.R.Context(), c.Caller.Tenant)
	if err != nil {
		return nil, err
	}
	closed := map[string]bool{}
	for _, t := range types {
		for _, scope := range t.Scopes {
			closed[t.Name] = closed[t.Name] || !c.Caller.Has(scope)
		}
	}
	return closed, nil
}
