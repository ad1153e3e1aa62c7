package subscriptions

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// settable are the fields that a caller may set and change.
type settable struct {
	Name          string            `json:"name,omitempty" doc:"What people call it." example:"Orders to ERP"`
	Description   string            `json:"description,omitempty" example:"New orders, for accounting"`
	URL           string            `json:"url" doc:"Where deliveries go: http or https, without user, password and fragment. Private addresses are refused unless the deployment allows them." example:"https://erp.example.com/hooks"`
	EventTypes    []string          `json:"event_types" maxItems:"100" nullable:"false" doc:"Event types, or patterns: order.* takes one more token, order.> one or more, * takes all." example:"[\"order.*\"]"`
	ResourceID    *string           `json:"resource_id,omitempty" nullable:"true" doc:"Only events whose resource_ids hold this one; null for any." example:"123"`
	Changed       []string          `json:"changed,omitempty" maxItems:"100" doc:"Only events that changed one of these attributes; empty for any." example:"[\"status\"]"`
	Filter        *string           `json:"filter,omitempty" nullable:"true" doc:"A CEL expression over event (type id time data changed resource_ids) that must be true; null for none." example:"event.data.total > 100.0"`
	Headers       map[string]string `json:"headers,omitempty" maxProperties:"50" nullable:"true" doc:"Sent with each delivery, beside Fanfare's own." example:"{\"X-Env\":\"prod\"}"`
	PayloadFormat string            `json:"payload_format,omitempty" enum:"standard,cloudevents,raw,leat,kajabi,passona,babelfor" doc:"The form of the body." example:"standard"`
	ContentType   *string           `json:"content_type,omitempty" nullable:"true" doc:"The Content-Type of the requests; null for that of the payload format." example:"application/vnd.acme.events+json"`
	Auth          *newAuth          `json:"auth,omitempty"`
	Certificate   *newCertificate   `json:"client_certificate,omitempty"`
	Retry         *newRetry         `json:"retry,omitempty"`
	Timeout       *span             `json:"timeout,omitempty" nullable:"true" doc:"Of one attempt, from DNS to the last byte: 1s to 30s; 15s if left out." example:"15s"`
	MaxInFlight   *int              `json:"max_in_flight,omitempty" nullable:"true" doc:"Requests at once over all workers: 1 to 1000; 32 if left out." example:"32"`
	RateLimit     *rateLimitJSON    `json:"rate_limit,omitempty"`
	Ordering      *orderingJSON     `json:"ordering,omitempty"`
	Status        Status            `json:"status,omitempty" enum:"active,paused,disabled" doc:"active, paused (matches are held) or disabled (nothing is matched)." example:"active"`
	Metadata      map[string]string `json:"metadata,omitempty" maxProperties:"50" nullable:"true" doc:"Whatever the caller wants to find again." example:"{\"team\":\"billing\"}"`
}

// PatchName is the name of a patch of it in the document.
func (settable) PatchName() string { return "SubscriptionPatch" }

type newRetry struct {
	_          struct{} `nullable:"true"`
	Schedule   []span   `json:"schedule,omitempty" maxItems:"100" doc:"Delays before retry 1, 2, ...; the last repeats up to max_retries. 1ms to 7d each." example:"[\"5s\",\"5m\",\"30m\",\"2h\",\"5h\",\"10h\",\"14h\",\"20h\",\"24h\"]"`
	MaxRetries *int     `json:"max_retries,omitempty" nullable:"true" doc:"How many retries follow the first attempt: 0 to 100; as many as the schedule has entries if left out." example:"9"`
}

type rateLimitJSON struct {
	_     struct{} `nullable:"true"`
	Limit int      `json:"limit" doc:"How many requests, also at once." example:"100"`
	Per   span     `json:"per" doc:"In which time. From 1 a minute to 1000 a second." example:"1s"`
}

type orderingJSON struct {
	_      struct{} `nullable:"true"`
	Key    string   `json:"key" doc:"A CEL expression over event. Deliveries of the same value are sent one after the other, in the order in which the events were accepted. An event for which it has no value (a missing attribute, null, an empty text) is sent in no order." example:"event.data.order"`
	OnDead OnDead   `json:"on_dead,omitempty" enum:"continue,stop" doc:"After a delivery was given up: continue sends the next one of its key; stop sends none until the dead one was retried with success, or passed over by cancelling it." example:"continue"`
}

// Settable has an exported name only because huma passes over embedded fields that have not.
type Settable = settable

// newSubscription is the body of a create.
type newSubscription struct {
	Tenant string `json:"tenant,omitempty" doc:"Admin keys must name the tenant, here or as ?tenant=." example:"acme"`
	Settable
	Signing Signing    `json:"signing,omitempty" enum:"hmac,ed25519" doc:"hmac signs v1 with a shared secret, ed25519 signs v1a and gives a public key. Fixed from then on." example:"hmac"`
	Secret  string     `json:"secret,omitempty" doc:"A secret of the caller's own: whsec_ and 24 to 64 bytes in base64, or whsk_ for ed25519; generated if left out." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
	Since   *time.Time `json:"since,omitempty" doc:"Also send events accepted at this time or later, 100 deliveries a second beside the live ones. Not in the future, and not before what the stream still holds." example:"2026-11-20T10:00:00Z"`
}

// backfillJSON says who sends the past.
type backfillJSON struct {
	ReplayID uuid.UUID `json:"replay_id" doc:"The replay that sends the past" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5b"`
}

// subscriptionJSON is a subscription as it is shown.
type subscriptionJSON struct {
	ID             uuid.UUID         `json:"id" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	Number         int32             `json:"number" doc:"A small id beside the other, for dialects." example:"17"`
	Tenant         string            `json:"tenant" example:"acme"`
	Dialect        string            `json:"dialect" enum:"native,leat,kajabi,passona,babelfor" doc:"The API that it was made through." example:"native"`
	Name           string            `json:"name" example:"Orders to ERP"`
	Description    string            `json:"description" example:"New orders, for accounting"`
	URL            string            `json:"url" example:"https://erp.example.com/hooks"`
	EventTypes     []string          `json:"event_types" nullable:"false" example:"[\"order.*\"]"`
	ResourceID     *string           `json:"resource_id" example:"123"`
	Changed        []string          `json:"changed" nullable:"false" example:"[\"status\"]"`
	Filter         *string           `json:"filter" example:"event.data.total > 100.0"`
	Headers        map[string]string `json:"headers" nullable:"false" example:"{\"X-Env\":\"prod\"}"`
	PayloadFormat  string            `json:"payload_format" enum:"standard,cloudevents,raw,leat,kajabi,passona,babelfor" example:"standard"`
	ContentType    *string           `json:"content_type" doc:"Null: that of the payload format." example:"application/vnd.acme.events+json"`
	Auth           *authJSON         `json:"auth" doc:"How requests authenticate, without secrets; null: not at all."`
	Certificate    *certificateJSON  `json:"client_certificate" doc:"The certificate that is presented to receivers that ask for one; null: none."`
	Retry          retryJSON         `json:"retry"`
	Timeout        span              `json:"timeout" example:"15s"`
	MaxInFlight    int               `json:"max_in_flight" example:"32"`
	RateLimit      *rateLimitJSON    `json:"rate_limit"`
	Ordering       *orderingJSON     `json:"ordering" doc:"Null where none is asked for."`
	Signing        Signing           `json:"signing" enum:"hmac,ed25519" example:"hmac"`
	Status         Status            `json:"status" enum:"active,paused,disabled" example:"active"`
	DisabledReason *disabledReason   `json:"disabled_reason" doc:"Why it is disabled: gone (it answered 410), failing (the failure rule) or manual; else null." example:"gone"`
	Version        string            `json:"version" example:"V1"`
	Metadata       map[string]string `json:"metadata" nullable:"false" example:"{\"team\":\"billing\"}"`
	CreatedAt      time.Time         `json:"created_at"`
	UpdatedAt      time.Time         `json:"updated_at"`
	Secret         string            `json:"secret,omitempty" doc:"In the answers to its creation and to the rotation of its secret only." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
	Backfill       *backfillJSON     `json:"backfill,omitempty" doc:"In the answer to its creation only, if since was given."`
	PublicKey      string            `json:"public_key,omitempty" doc:"In the answers to its creation and to the rotation of its secret only, for ed25519." example:"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="`
}

// retryJSON is the policy that holds, defaults included.
type retryJSON struct {
	Schedule   []span `json:"schedule" nullable:"false" example:"[\"5s\",\"5m\",\"30m\",\"2h\",\"5h\",\"10h\",\"14h\",\"20h\",\"24h\"]"`
	MaxRetries int    `json:"max_retries" example:"9"`
}

type secretJSON struct {
	Secret    *string `json:"secret" doc:"Null for ed25519." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
	PublicKey *string `json:"public_key" doc:"What verifies v1a signatures; null for hmac." example:"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="`
}

// span is a duration as the API writes it: "5s", "24h".
type span time.Duration

// MarshalText implements encoding.TextMarshaler.
func (s span) MarshalText() ([]byte, error) { return []byte(formatDuration(time.Duration(s))), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	d, err := parseDuration(string(text))
	*s = span(d)
	return err
}

// disabledReason is why a subscription is disabled; nil is null.
type disabledReason string

// Schema lists the reasons and null.
func (*disabledReason) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, Enum: []any{"gone", "failing", Manual, nil}}
}

// into sets what a caller may set; the rest of the subscription stays.
func (in *settable) into(s *Subscription) {
	s.Name, s.Description, s.URL = in.Name, in.Description, in.URL
	s.EventTypes, s.Changed = in.EventTypes, in.Changed
	s.ResourceID, s.Filter = deref(in.ResourceID), deref(in.Filter)
	s.Headers, s.Metadata = in.Headers, in.Metadata
	s.PayloadFormat, s.ContentType, s.Status = in.PayloadFormat, deref(in.ContentType), in.Status
	s.Auth, s.Certificate = in.Auth.auth(), in.Certificate.certificate()
	s.Timeout, s.MaxInFlight = DefaultTimeout, DefaultMaxInFlight
	// A zero that somebody wrote is no default: as a negative number it is refused.
	if in.Timeout != nil {
		s.Timeout = time.Duration(*in.Timeout)
		setDefault(&s.Timeout, -1)
	}
	if in.MaxInFlight != nil {
		s.MaxInFlight = *in.MaxInFlight
		setDefault(&s.MaxInFlight, -1)
	}
	s.Retry = Retry{}
	if in.Retry != nil {
		s.Retry.MaxRetries = in.Retry.MaxRetries
		for _, d := range in.Retry.Schedule {
			s.Retry.Schedule = append(s.Retry.Schedule, time.Duration(d))
		}
	}
	s.RateLimit = nil
	if in.RateLimit != nil {
		s.RateLimit = &RateLimit{Limit: in.RateLimit.Limit, Per: time.Duration(in.RateLimit.Per)}
	}
	s.Ordering = nil
	if in.Ordering != nil {
		s.Ordering = &Ordering{Key: in.Ordering.Key, OnDead: in.Ordering.OnDead}
	}
}

// settableOf is the document that a patch is merged into: the fields that were set, without defaults.
func settableOf(s *Subscription) settable {
	out := settable{
		Name: s.Name, Description: s.Description, URL: s.URL, EventTypes: notNil(s.EventTypes),
		ResourceID: optional(s.ResourceID), Changed: s.Changed, Filter: optional(s.Filter), Headers: s.Headers,
		PayloadFormat: s.PayloadFormat, ContentType: optional(s.ContentType), Timeout: new(span(s.Timeout)), MaxInFlight: &s.MaxInFlight,
		Auth: newAuthOf(s.Auth), Certificate: newCertificateOf(s.Certificate),
		RateLimit: presentRate(s.RateLimit), Ordering: presentOrdering(s.Ordering), Status: s.Status, Metadata: s.Metadata,
	}
	if s.Retry.MaxRetries != nil || s.Retry.Schedule != nil {
		out.Retry = &newRetry{Schedule: spans(s.Retry.Schedule), MaxRetries: s.Retry.MaxRetries}
	}
	return out
}

func present(s *Subscription) subscriptionJSON {
	return subscriptionJSON{
		ID: s.ID, Number: s.Number, Tenant: s.Tenant, Dialect: s.Dialect, Name: s.Name, Description: s.Description, URL: s.URL,
		EventTypes: notNil(s.EventTypes), ResourceID: optional(s.ResourceID), Changed: notNil(s.Changed), Filter: optional(s.Filter),
		Headers: notNilMap(s.Headers), PayloadFormat: s.PayloadFormat, ContentType: optional(s.ContentType),
		Auth: presentAuth(s.Auth), Certificate: presentCertificate(s.Certificate), Retry: presentRetry(s.Retry), Timeout: span(s.Timeout),
		MaxInFlight: s.MaxInFlight, RateLimit: presentRate(s.RateLimit), Ordering: presentOrdering(s.Ordering), Signing: s.Signing, Status: s.Status,
		DisabledReason: optional(disabledReason(s.DisabledReason)), Version: s.Version, Metadata: notNilMap(s.Metadata),
		CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt,
	}
}

func presentRetry(r Retry) retryJSON {
	schedule := r.Schedule
	if len(schedule) == 0 {
		schedule = DefaultSchedule
	}
	out := retryJSON{Schedule: spans(schedule), MaxRetries: len(schedule)}
	if r.MaxRetries != nil {
		out.MaxRetries = *r.MaxRetries
	}
	return out
}

func presentRate(r *RateLimit) *rateLimitJSON {
	if r == nil {
		return nil
	}
	return &rateLimitJSON{Limit: r.Limit, Per: span(r.Per)}
}

func presentOrdering(o *Ordering) *orderingJSON {
	if o == nil {
		return nil
	}
	return &orderingJSON{Key: o.Key, OnDead: o.OnDead}
}

// presentSecret shows the current secret. The private key of ed25519 is shown to nobody.
func presentSecret(s *Subscription) secretJSON {
	switch {
	case len(s.Secrets) == 0:
		return secretJSON{}
	case s.Signing == SignEd25519:
		return secretJSON{PublicKey: optional(s.Secrets[0].PublicKey())}
	}
	return secretJSON{Secret: &s.Secrets[0].Value}
}

func spans(list []time.Duration) []span {
	out := make([]span, len(list))
	for i, d := range list {
		out[i] = span(d)
	}
	return out
}

func optional[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}

func deref[T ~string](s *T) T {
	if s == nil {
		return ""
	}
	return *s
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func notNilMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
