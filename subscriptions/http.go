package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	scopeRead  = "subscriptions:read"
	scopeWrite = "subscriptions:write"
)

// routes is the HTTP API of subscriptions and event types: it turns requests into calls of the Store, and the Store's
// errors into problems.
type routes struct {
	store  *Store
	recent recentEvents
	// catalogs are the places of catalogs that are being written.
	catalogs *fair.Room
}

// recentEvents reads the newest events of a type, for what a change of its schema would refuse.
type recentEvents interface {
	// Each passes them to take, newest first, as far as it may read, until take returns false. An empty tenant means all tenants.
	Each(ctx context.Context, tenant, eventType string, take func(*event.Event) bool) error
}

// Routes adds the operations of subscriptions and event types to an API. Without recent events, a change of a schema is held
// against none.
func Routes(to huma.API, store *Store, recent recentEvents) {
	r := routes{store, recent, fair.NewRoom(catalogsAtOnce, catalogWait)}
	tag := huma.OperationTags("Subscriptions")
	const base, one = "/v1/subscriptions", "/v1/subscriptions/{id}"
	huma.Post(to, base, r.postSubscription, tag, api.Scope(scopeWrite), wholeBody, describe("create-subscription", "Create a subscription",
		"Makes a subscription. Events that are published after the answer are matched against it. The answer holds the secret, which is "+
			"shown again at /secret only. A subscription to an event type that demands scopes needs a key that has them. With `since`, "+
			"past events that match are sent as well, each once, alongside new ones: `backfill.replay_id` names a replay, "+
			"which /v1/replays shows, pauses, resumes and cancels.", http.StatusCreated))
	huma.Get(to, base, r.getSubscriptions, tag, api.Scope(scopeRead), describe("list-subscriptions", "List subscriptions",
		"The subscriptions of the tenant; for a key over all tenants that names none, those of all.", http.StatusOK))
	huma.Get(to, one, r.getSubscription, tag, api.Scope(scopeRead), describe("get-subscription", "Read a subscription",
		"Its ETag names the version, for If-Match.", http.StatusOK))
	huma.Patch(to, one, r.patchSubscription, tag, api.Scope(scopeWrite), wholeBody, describe("update-subscription", "Change a subscription",
		"A JSON Merge Patch: omitted fields stay, null clears. Events that are published after the answer are matched accordingly. "+
			"Setting status to disabled ends matching and cancels pending deliveries; active enables again. Fields that a vendor's dialect fixes cannot be changed here.",
		http.StatusOK))
	huma.Delete(to, one, r.deleteSubscription, tag, api.Scope(scopeWrite), describe("delete-subscription", "Delete a subscription",
		"Its pending deliveries are cancelled. Deliveries that ended stay readable.", http.StatusNoContent))
	huma.Get(to, one+"/secret", r.getSecret, tag, api.Scope(scopeWrite), describe("get-subscription-secret", "Read the secret",
		"The current secret; for ed25519 the public key.", http.StatusOK))
	huma.Post(to, one+"/rotate-secret", r.rotateSecret, tag, api.Scope(scopeWrite), describe("rotate-subscription-secret", "Rotate the secret",
		"Makes a new secret, or takes a given one. The old one signs as well until the overlap ends, so receivers can be changed over without a gap. "+
			"The answer holds the new one.",
		http.StatusAccepted))
	huma.Post(to, one+"/pause", r.pauseSubscription, tag, api.Scope(scopeWrite), describe("pause-subscription", "Pause a subscription",
		"Matches are held until it is resumed.", http.StatusAccepted))
	huma.Post(to, one+"/resume", r.resumeSubscription, tag, api.Scope(scopeWrite), describe("resume-subscription", "Resume a subscription",
		"Held deliveries are sent.", http.StatusAccepted))
	r.eventTypeRoutes(to)
	r.catalogRoute(to)
}

// maxSubscriptionBytes has room for a subscription whose fields all have their largest size.
const maxSubscriptionBytes = 256 << 10

func wholeBody(op *huma.Operation) { op.MaxBodyBytes = maxSubscriptionBytes }

func describe(id, summary, description string, status int) func(*huma.Operation) {
	return func(op *huma.Operation) {
		op.OperationID, op.Summary, op.Description, op.DefaultStatus = id, summary, description, status
	}
}

// idInput is the path of a subscription.
type idInput struct {
	ID string `path:"id" doc:"The subscription's id." example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
}

// subscriptionOutput is the response of most operations.
type subscriptionOutput struct {
	ETag string `header:"ETag"`
	Body subscriptionJSON
}

// createdOutput is the response to a create.
type createdOutput struct {
	ETag     string `header:"ETag"`
	Location string `header:"Location" doc:"The path of the new subscription."`
	Body     subscriptionJSON
}

func output(sub *Subscription) *subscriptionOutput {
	return &subscriptionOutput{ETag: etag(sub), Body: present(sub)}
}

func etag(sub *Subscription) string { return api.ETag(sub.ID, sub.Revision) }

// find reads the subscription of a path for the caller. Another tenant's subscription is not found.
func (r routes) find(ctx context.Context, rawID string) (*Subscription, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	id, err := api.ParseID(rawID)
	if err != nil {
		return nil, err
	}
	sub, err := r.store.Get(ctx, tenant, id)
	return sub, problem(err)
}

// held returns the scopes of the caller.
func held(ctx context.Context) []string {
	caller := api.CallerFrom(ctx)
	if caller.Admin {
		return []string{AllScopes}
	}
	return caller.Scopes
}

func (r routes) postSubscription(ctx context.Context, in *struct{ Body newSubscription }) (*createdOutput, error) {
	tenant, err := api.TenantOf(ctx, in.Body.Tenant)
	if err != nil {
		return nil, err
	}
	sub := &Subscription{Tenant: tenant, Dialect: Native, Signing: in.Body.Signing, Scopes: held(ctx)}
	in.Body.into(sub)
	if in.Body.Secret != "" {
		sub.Secrets = []Secret{{Value: in.Body.Secret}}
	}
	if err := refuseCredentials(&Subscription{}, sub); err != nil {
		return nil, problem(err)
	}
	backfill, err := r.createAsked(ctx, sub, in.Body.Since)
	if err != nil {
		return nil, problem(err)
	}
	out := &createdOutput{ETag: etag(sub), Location: "/v1/subscriptions/" + sub.ID.String(), Body: present(sub)}
	out.Body.Backfill = backfill
	secret := presentSecret(sub)
	out.Body.Secret, out.Body.PublicKey = deref(secret.Secret), deref(secret.PublicKey)
	return out, nil
}

// createAsked creates a subscription, with a backfill of past events if since is set.
func (r routes) createAsked(ctx context.Context, sub *Subscription, since *time.Time) (*backfillJSON, error) {
	if since == nil {
		return nil, r.store.Create(ctx, sub)
	}
	id, err := r.store.CreateSince(ctx, sub, since.UTC())
	if err != nil {
		return nil, err
	}
	return &backfillJSON{ReplayID: id}, nil
}

type listInput struct {
	api.ListInput
	EventType string `query:"event_type" maxLength:"128" doc:"Subscriptions that receive this event type, or have exactly this pattern." example:"order.created"`
	Status    Status `query:"status" enum:"active,paused,disabled" doc:"Subscriptions in this status."`
	Q         string `query:"q" maxLength:"200" doc:"Subscriptions with this text in their name, description or URL, in upper or lower case." example:"erp"`
	Dialect   string `query:"dialect" enum:"native,leat,kajabi,passona,babelfor" doc:"Subscriptions that were created through this API."`
}

func (r routes) getSubscriptions(ctx context.Context, in *listInput) (*struct{ Body api.List[subscriptionJSON] }, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	if in.EventType != "" {
		if err := ValidPattern(in.EventType); err != nil {
			return nil, api.Invalid(api.At("query.event_type", err.Error()))
		}
	}
	page, err := in.Page(ctx)
	if err != nil {
		return nil, err
	}
	after, err := page.AfterID()
	if err != nil {
		return nil, err
	}
	found, err := r.store.List(ctx, Query{
		Tenant: tenant, Dialect: in.Dialect, EventType: in.EventType, Status: in.Status, Text: in.Q,
		After: after, Asc: page.Asc, Limit: page.Fetch(),
	})
	if err != nil {
		return nil, problem(err)
	}
	items := make([]subscriptionJSON, len(found))
	for i, sub := range found {
		items[i] = present(seenBy(ctx, sub))
	}
	list, err := api.ListOf(ctx, page, items, func(item subscriptionJSON) string { return item.ID.String() })
	return &struct{ Body api.List[subscriptionJSON] }{list}, err
}

func (r routes) getSubscription(ctx context.Context, in *idInput) (*subscriptionOutput, error) {
	sub, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := output(sub)
	out.Body = present(seenBy(ctx, sub))
	return out, nil
}

// seenBy returns a subscription as the caller may see it.
func seenBy(ctx context.Context, sub *Subscription) *Subscription {
	if api.CallerFrom(ctx).Has(scopeWrite) {
		return sub
	}
	return sub.Masked()
}

// changeInput is the path of a subscription and the precondition of its change.
type changeInput struct {
	ID string `path:"id" doc:"The subscription's id." example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	api.Precondition
}

type patchInput struct {
	ID string `path:"id" doc:"The subscription's id." example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	api.Precondition
	Body api.Patch[settable]
}

// patchTries bounds the tries of a patch without If-Match when the subscription changes meanwhile.
const patchTries = 5

func (r routes) patchSubscription(ctx context.Context, in *patchInput) (*subscriptionOutput, error) {
	for try := 1; ; try++ {
		sub, err := r.patch(ctx, in)
		if errors.Is(err, ErrChanged) && try < patchTries {
			continue // With If-Match, reading it again shows that it is stale.
		}
		if err != nil {
			return nil, problem(err)
		}
		return output(sub), nil
	}
}

func (r routes) patch(ctx context.Context, in *patchInput) (*Subscription, error) {
	before, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := in.Check(etag(before)); err != nil {
		return nil, err
	}
	base := settableOf(before)
	elsewhere, err := newOrigin(before, in.Body)
	if err != nil {
		return nil, err
	}
	if elsewhere {
		base.Auth, base.Certificate, base.Headers = nil, nil, withoutSecrets(before.Headers, before.Headers)
	}
	if otherAuth(in.Body.Field("auth"), before.Auth) {
		base.Auth = nil
	}
	next, err := in.Body.Apply(base)
	if err != nil {
		return nil, err
	}
	after := *before
	next.into(&after)
	if after.Status == Disabled && before.Status != Disabled {
		after.DisabledReason = Manual
	}
	after.fill()
	if before.Dialect == Native {
		if err := refuseCredentials(before, &after); err != nil {
			return nil, err
		}
	}
	if err := guardDialect(before, &after); err != nil {
		return nil, err
	}
	if err := r.store.Rescope(ctx, before, &after, held(ctx)); err != nil {
		return nil, err
	}
	return &after, r.store.Update(ctx, &after)
}

// newOrigin reports whether a patch gives a subscription a URL of another origin. Such a patch is refused unless it sets or
// clears each credential that is stored for the present origin.
func newOrigin(before *Subscription, patch api.Patch[settable]) (bool, error) {
	var next string
	if err := json.Unmarshal(patch.Field("url"), &next); err != nil || origin(next) == origin(before.URL) {
		return false, nil // No URL, or not a text; the latter is refused when the patch is applied.
	}
	bad := &Invalid{}
	for _, stored := range []struct {
		field string
		is    bool
	}{
		{"auth", before.Auth != nil}, {"client_certificate", before.Certificate != nil},
		{"headers", len(withoutSecrets(before.Headers, before.Headers)) != len(before.Headers)},
	} {
		if stored.is && !patch.Has(stored.field) {
			bad.addf(stored.field, "must be given again, or cleared by null: the URL has another scheme, host or port")
		}
	}
	return true, bad.orNil()
}

func (r routes) deleteSubscription(ctx context.Context, in *changeInput) (*struct{}, error) {
	sub, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := in.Check(etag(sub)); err != nil {
		return nil, err
	}
	return nil, problem(r.store.Delete(ctx, sub.Tenant, sub.ID))
}

func (r routes) pauseSubscription(ctx context.Context, in *idInput) (*subscriptionOutput, error) {
	return r.act(ctx, in.ID, func(sub *Subscription) (*Subscription, error) { return r.store.Pause(ctx, sub.Tenant, sub.ID) })
}

func (r routes) resumeSubscription(ctx context.Context, in *idInput) (*subscriptionOutput, error) {
	return r.act(ctx, in.ID, func(sub *Subscription) (*Subscription, error) { return r.store.Resume(ctx, sub.Tenant, sub.ID) })
}

func (r routes) act(ctx context.Context, id string, do func(*Subscription) (*Subscription, error)) (*subscriptionOutput, error) {
	sub, err := r.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if sub, err = do(sub); err != nil {
		return nil, problem(err)
	}
	return output(sub), nil
}

// problem converts an error of the Store to a response.
func problem(err error) error {
	if err == nil {
		return nil
	}
	if bad, ok := errors.AsType[*Invalid](err); ok {
		details := make([]error, len(bad.Faults))
		for i, f := range bad.Faults {
			details[i] = api.At("body."+f.Field, f.Message)
		}
		return api.Invalid(details...)
	}
	if lacking, ok := errors.AsType[*ScopeError](err); ok {
		return api.Forbidden(lacking.Error())
	}
	if replaced, ok := errors.AsType[*ReplacementError](err); ok {
		return api.Conflict(replaced.Error())
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return api.NotFound()
	case errors.Is(err, ErrChanged):
		return api.Conflict("somebody else is changing it; try again")
	case errors.Is(err, ErrExists), errors.Is(err, ErrDisabled), errors.Is(err, ErrTooManySecrets), errors.Is(err, ErrSealed):
		return api.Conflict(err.Error())
	case postgres.IsUnavailable(err):
		return api.Unavailable(err)
	}
	return err
}
