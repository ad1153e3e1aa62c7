package fanout

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	// previewTime bounds a preview: what was not examined by then is left out.
	previewTime = 5 * time.Second
	// previewSamples is how many of the events that match are told.
	previewSamples = 10
	// previewSpan is the shortest span of time that a rate is made of.
	previewSpan = time.Minute
)

type previewInput struct{ Body previewBody }

type previewBody struct {
	EventTypes []string `json:"event_types" minItems:"1" maxItems:"100" doc:"Types and patterns, as those of a subscription" example:"[\"order.*\"]"`
	ResourceID *string  `json:"resource_id,omitempty" maxLength:"256" nullable:"true"`
	Changed    []string `json:"changed,omitempty" maxItems:"100"`
	Filter     *string  `json:"filter,omitempty" nullable:"true" doc:"CEL over event" example:"event.data.total > 100.0"`
	Last       int      `json:"last,omitempty" minimum:"1" maximum:"100000" default:"10000" doc:"How many events to examine at most"`
	Tenant     string   `json:"tenant,omitempty" doc:"For admin keys"`
}

type previewOutput struct{ Body previewJSON }

type previewJSON struct {
	Examined int          `json:"examined" doc:"Events of the stream that were looked at"`
	Matched  int          `json:"matched"`
	PerDay   int          `json:"per_day" doc:"What that makes in a day"`
	Samples  []sampleJSON `json:"samples" doc:"The last ones that match, newest first"`
}

type sampleJSON struct {
	ID   string    `json:"id"`
	Type string    `json:"type"`
	Time time.Time `json:"time"`
}

// preview says how many of the last events a subscription would have matched.
func (r Routes) preview(ctx context.Context, in *previewInput) (*previewOutput, error) {
	tenant, err := api.TenantOf(ctx, in.Body.Tenant)
	if err != nil {
		return nil, err
	}
	sub, err := in.Body.subscription(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if _, err := r.Directory.Fresh(ctx); err != nil { // For the scopes that event types demand.
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, previewTime)
	defer cancel()
	seq, err := r.Ledger.seqBack(ctx, tenant, in.Body.Last)
	if err != nil {
		return nil, err
	}
	_, last, err := r.Reader.ends(ctx)
	if err != nil {
		return nil, err
	}
	var looked []look
	candidate := r.Directory.Candidate(sub)
	for e, err := range r.Reader.recent(ctx, tenant, seq) {
		if err != nil {
			return nil, err
		}
		if e.Seq > last {
			break
		}
		looked = append(looked, look{
			at: e.AcceptedAt, matched: candidate.Would(e.matchEvent()), sample: sampleJSON{ID: e.ID, Type: e.Type, Time: e.Time},
		})
	}
	return &previewOutput{Body: summary(looked[max(len(looked)-in.Body.Last, 0):], r.Now())}, nil
}

// look is one event that was looked at.
type look struct {
	at      time.Time
	matched bool
	sample  sampleJSON
}

// summary sums up what was looked at, oldest first.
func summary(looked []look, now time.Time) previewJSON {
	p := previewJSON{Examined: len(looked), Samples: []sampleJSON{}}
	for _, l := range slices.Backward(looked) {
		if !l.matched {
			continue
		}
		if p.Matched++; len(p.Samples) < previewSamples {
			p.Samples = append(p.Samples, l.sample)
		}
	}
	if p.Matched > 0 {
		span := max(now.Sub(looked[0].at), previewSpan)
		p.PerDay = int(float64(p.Matched) * float64(24*time.Hour) / float64(span))
	}
	return p
}

// subscription makes one of the fields that matter for matching, or says what is wrong with them.
func (b *previewBody) subscription(ctx context.Context, tenant string) (*subscriptions.Subscription, error) {
	var faults []error
	for i, pattern := range b.EventTypes {
		if err := subscriptions.ValidPattern(pattern); err != nil {
			faults = append(faults, api.At("body.event_types["+strconv.Itoa(i)+"]", err.Error()))
		}
	}
	for i, attribute := range b.Changed {
		if r := checkAttribute("changed", attribute); r != nil {
			faults = append(faults, api.At("body.changed["+strconv.Itoa(i)+"]", r.Faults[0].Message))
		}
	}
	filter := ""
	if b.Filter != nil {
		filter = *b.Filter
	}
	if filter != "" {
		if _, err := subscriptions.CompileFilter(filter); err != nil {
			faults = append(faults, api.At("body.filter", err.Error()))
		}
	}
	if len(faults) > 0 {
		return nil, api.Invalid(faults...)
	}
	sub := &subscriptions.Subscription{
		Tenant: tenant, EventTypes: b.EventTypes, Changed: b.Changed, Filter: filter, Status: subscriptions.Active,
		Scopes: api.CallerFrom(ctx).Scopes,
	}
	if b.ResourceID != nil {
		sub.ResourceID = *b.ResourceID
	}
	if api.CallerFrom(ctx).Admin {
		sub.Scopes = []string{subscriptions.AllScopes}
	}
	return sub, nil
}
