package fanout

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	// previewWait is how long a preview waits for its place. There is one a core, which rests most of the time: each reads up to
	// 100,000 events and runs a filter on them. How many a tenant asks for at once is a quota.
	previewWait = 10 * time.Second
	// previewTime bounds a preview: events not examined by then are left out.
	previewTime = 8 * time.Second
	// previewRest is how many times as long as its work takes a preview rests.
	previewRest = 5
	// previewPage is how many events are looked at together at most.
	previewPage = 200
	// previewFirst is how many there are in the first page, and each has twice as many: one of large events must end in time,
	// as events of a page that were not seen when the time is over do not count.
	previewFirst = 10
	// previewSamples is how many of the events that match are told.
	previewSamples = 10
	// previewSpan is the shortest span of time that a rate is made of.
	previewSpan = time.Minute
)

type previewInput struct{ Body newPreview }

type newPreview struct {
	EventTypes []string `json:"event_types" minItems:"1" maxItems:"100" doc:"Types and patterns, as those of a subscription" example:"[\"order.*\"]"`
	ResourceID *string  `json:"resource_id,omitempty" maxLength:"256" nullable:"true"`
	Changed    []string `json:"changed,omitempty" maxItems:"100"`
	Filter     *string  `json:"filter,omitempty" nullable:"true" doc:"CEL over event" example:"event.data.total > 100.0"`
	Last       int      `json:"last,omitempty" minimum:"1" maximum:"100000" default:"10000" doc:"How many events to examine at most"`
	Tenant     string   `json:"tenant,omitempty" doc:"For keys over all tenants"`
}

type previewOutput struct{ Body previewJSON }

type previewJSON struct {
	Examined int             `json:"examined" doc:"Events of the stream that were looked at"`
	Matched  int             `json:"matched"`
	PerDay   int             `json:"per_day" doc:"What that makes in a day"`
	Samples  []previewSample `json:"samples" nullable:"false" doc:"The last ones that match, newest first"`
	Oldest   *time.Time      `json:"oldest_replayable_at" doc:"Events accepted before this time have left the stream and were not examined; null if there is none"`
}

type previewSample struct {
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
	leave, err := r.Quotas.EnterSoon(tenant, quota.Previews)
	if err != nil {
		return nil, err
	}
	defer leave()
	if _, err := r.Directory.Fresh(ctx); err != nil { // For the scopes that event types demand.
		return nil, err
	}
	free, err := r.previews.Enter(ctx, tenant)
	if err != nil {
		return nil, err
	}
	defer free()
	ctx, cancel := context.WithTimeout(ctx, previewTime)
	defer cancel()
	p, err := r.sift(ctx, tenant, in.Body.Last, sub)
	if err != nil {
		return nil, err
	}
	return &previewOutput{Body: p}, nil
}

// sift looks at the last events of a tenant that are in the stream, newest first, until it has seen so many, there are no more
// or ctx ends.
func (r Routes) sift(ctx context.Context, tenant string, last int, sub *subscriptions.Subscription) (previewJSON, error) {
	p := previewJSON{Samples: []previewSample{}}
	from, err := r.Reader.Oldest(ctx)
	if err != nil {
		return p, err
	}
	if !from.At.IsZero() {
		p.Oldest = &from.At
	}
	var newest []Recorded // of those that match
	oldest := r.Now()
	size := previewFirst
	for page := (filter{tenant: tenant}); p.Examined < last; size = min(2*size, previewPage) {
		page.limit = min(size, last-p.Examined)
		rows, matching, err := r.look(ctx, &page, from.Seq, sub)
		if err != nil && (ctx.Err() == nil || p.Examined == 0) {
			return p, err
		}
		if err != nil || len(rows) == 0 {
			break
		}
		oldest = rows[len(rows)-1].AcceptedAt
		p.Examined += len(rows)
		p.Matched += len(matching)
		newest = newestOf(append(newest, matching...))
	}
	for _, row := range newest {
		p.Samples = append(p.Samples, previewSample{ID: row.ID, Type: row.Type, Time: row.Time})
	}
	if p.Matched > 0 {
		span := max(r.Now().Sub(oldest), previewSpan)
		p.PerDay = int(float64(p.Matched) * float64(24*time.Hour) / float64(span))
	}
	return p, nil
}

// newestOf returns as many as are told. Keys of one millisecond are in no order, places in the stream are.
func newestOf(rows []Recorded) []Recorded {
	slices.SortFunc(rows, func(a, b Recorded) int { return cmp.Compare(b.Seq, a.Seq) })
	return rows[:min(len(rows), previewSamples)]
}

// look returns the events of a page that are in the stream, and which of them match; none where there are no more. The page
// moves on.
func (r Routes) look(ctx context.Context, page *filter, first uint64, sub *subscriptions.Subscription) (rows, matching []Recorded, err error) {
	begun := time.Now()
	rows, _, err = r.Ledger.list(ctx, *page)
	if err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	if page.after != uuid.Nil { // Most previews have one page.
		if err := rest(ctx, previewRest*time.Since(begun)); err != nil {
			return nil, nil, err
		}
	}
	page.after = rows[len(rows)-1].UID
	rows = slices.DeleteFunc(rows, func(row Recorded) bool { return row.Erased || row.Seq < first })
	matching, err = Sieve{Reader: r.Reader, Bytes: r.Bytes, Directory: r.Directory, Rest: previewRest}.Matching(ctx, page.tenant, slices.Clone(rows), sub)
	return rows, matching, err
}

// subscription makes one of the fields that matter for matching, or names their faults.
func (b *newPreview) subscription(ctx context.Context, tenant string) (*subscriptions.Subscription, error) {
	var faults []error
	for i, pattern := range b.EventTypes {
		if err := subscriptions.ValidPattern(pattern); err != nil {
			faults = append(faults, api.At("body.event_types["+strconv.Itoa(i)+"]", err.Error()))
		}
	}
	for i, attribute := range b.Changed {
		if r := event.CheckAttribute("changed", attribute); r != nil {
			faults = append(faults, api.At("body.changed["+strconv.Itoa(i)+"]", r.Faults[0].Message))
		}
	}
	source := ""
	if b.Filter != nil {
		source = *b.Filter
	}
	if source != "" {
		if err := subscriptions.ValidFilter(source); err != nil {
			faults = append(faults, api.At("body.filter", err.Error()))
		}
	}
	if len(faults) > 0 {
		return nil, api.Invalid(faults...)
	}
	sub := &subscriptions.Subscription{
		Tenant: tenant, EventTypes: b.EventTypes, Changed: b.Changed, Filter: source, Status: subscriptions.Active,
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
