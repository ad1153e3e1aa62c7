package subscriptions

import (
	"time"

	"github.com/google/uuid"
)

// Status says whether a subscription receives events.
type Status string

// The statuses of a subscription.
const (
	// Active subscriptions are matched and sent to.
	Active Status = "active"
	// Paused subscriptions are matched; their deliveries are held and drain on resume.
	Paused Status = "paused"
	// Disabled subscriptions are not matched; pending deliveries are cancelled.
	Disabled Status = "disabled"
)

// Signing is the scheme by which a subscription's deliveries are signed.
type Signing string

// The signing schemes. Dialects sign by their vendor's, with the secret as it is.
const (
	SignHMAC    Signing = "hmac"    // v1: HMAC-SHA256
	SignEd25519 Signing = "ed25519" // v1a: the receiver holds a public key only
)

// The dialects: the API that a subscription was made through.
const (
	Native   = "native" // Fanfare's own
	Leat     = "leat"
	Kajabi   = "kajabi"
	Passona  = "passona"
	Babelfor = "babelfor"
)

// Subscription says who wants which events, and where and how they are sent.
type Subscription struct {
	ID     uuid.UUID
	Number int32 // a small id beside the UUID, for dialects whose clients store an integer
	Tenant string
	// Dialect is the API that the subscription was made through: Native or a vendor's name.
	Dialect string

	Name        string
	Description string
	URL         string
	// EventTypes are exact types or patterns: a token "*" stands for one token, a last token ">" for one
	// or more; "*" alone is every type.
	EventTypes []string
	// ResourceID, where not empty, must be among the event's resource ids.
	ResourceID string
	// Changed, where not empty, must share an attribute with the event's changed attributes.
	Changed []string
	// Filter is a CEL expression over event; empty passes everything.
	Filter string

	Headers       map[string]string
	PayloadFormat string
	ContentType   string // empty means that of the payload format
	Retry         Retry
	Timeout       time.Duration // of one attempt, DNS to last byte; 0 means DefaultTimeout
	MaxInFlight   int           // requests at once over all workers; 0 means DefaultMaxInFlight
	RateLimit     *RateLimit    // nil means no limit
	Ordering      *Ordering     // nil means no order

	// Signing is how deliveries are signed; fixed when the subscription is made.
	Signing Signing
	// Secrets sign the deliveries: the current one first, then those that overlap until they expire. None
	// means unsigned, which only dialects know. What Directory.Match returns has none either.
	Secrets []Secret
	// Auth makes the Authorization header, and Certificate is presented to receivers that ask for one; nil for none.
	// They are sealed together with the secrets, and where those are left out, so are they.
	Auth        *Auth
	Certificate *ClientCertificate
	// Err says why a Directory could not make the subscription whole: its secrets do not open, or a column
	// holds what Fanfare did not write. Nothing can be sent until that is mended; others are not affected.
	Err error

	Status         Status
	DisabledReason string // a delivery reason or "manual"; empty unless Disabled
	Version        string
	Metadata       map[string]string
	// Scopes are those that the key which made the subscription held; event types that demand scopes are
	// matched only within them. Admin keys hold every scope: AllScopes.
	Scopes []string

	CreatedAt time.Time
	UpdatedAt time.Time
	// Deleted marks a tombstone, by which a Directory learns that the subscription is gone.
	Deleted bool
	// Revision orders all changes of all subscriptions; see Directory.
	Revision int64
}

// AllScopes among a subscription's scopes means that an admin key made it.
const AllScopes = "*"

// Defaults of what a subscription leaves open.
const (
	DefaultTimeout     = 15 * time.Second
	MaxTimeout         = 30 * time.Second
	DefaultMaxInFlight = 32
	DefaultFormat      = "standard"
	DefaultVersion     = "V1"
)

// Retry is a subscription's own retry policy.
type Retry struct {
	// Schedule holds the delays before retry 1, 2, ...; the last repeats up to MaxRetries. Nil means
	// DefaultSchedule. 1 ms to 7 days each.
	Schedule []time.Duration
	// MaxRetries is how many retries follow the first attempt; 0 means none. Nil means one for each
	// entry of the schedule.
	MaxRetries *int
}

// DefaultSchedule is the retry schedule of Standard Webhooks: ten attempts over about 76 hours.
var DefaultSchedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// Delay returns how long after failed attempt number n (from 1) the next one is due, before jitter, and
// false when there is no next one.
func (r Retry) Delay(n int) (time.Duration, bool) {
	schedule := r.Schedule
	if len(schedule) == 0 {
		schedule = DefaultSchedule
	}
	retries := len(schedule)
	if r.MaxRetries != nil {
		retries = *r.MaxRetries
	}
	if n > retries {
		return 0, false
	}
	return schedule[min(n, len(schedule))-1], true
}

// RateLimit is at most Limit requests in any Per.
type RateLimit struct {
	Limit int           `json:"limit"`
	Per   time.Duration `json:"per"`
}

// Secret is one signing key of a subscription, in the clear; the store seals it.
type Secret struct {
	// Value is "whsec_" or "whsk_" (ed25519) and base64; a dialect may store any text.
	Value string `json:"value"`
	// ExpiresAt ends the overlap of a rotated secret; zero for the current one.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}
