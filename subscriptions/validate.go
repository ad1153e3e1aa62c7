package subscriptions

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of a subscription's fields.
const (
	maxName        = 200  // characters
	maxDescription = 2000 // characters
	maxAttribute   = 256  // bytes of a resource id or a changed attribute
	maxAttributes  = 100
	maxMetadata    = 50 // entries
	maxMetadataKey = 128
	maxMetadataVal = 1024
	maxReason      = 64

	maxSchedule     = 100 // entries
	minDelay        = time.Millisecond
	maxDelay        = 7 * 24 * time.Hour
	maxRetriesLimit = 100
	minTimeout      = time.Second
	maxMaxInFlight  = 1000

	maxRatePerSecond = 1000
	minRatePerMinute = 1
	maxRateLimit     = 60_000
	minRatePer       = time.Millisecond
	maxRatePer       = 24 * time.Hour
)

// PayloadFormats are the formats that a delivery's body can have.
var PayloadFormats = []string{DefaultFormat, "cloudevents", "raw", Leat, Kajabi, Passona, Babelfor}

// fill gives defaults to unset fields, and brings values to their stored form.
func (s *Subscription) fill() {
	setDefault(&s.Dialect, Native)
	if s.Dialect == Native {
		setDefault(&s.PayloadFormat, DefaultFormat)
	} else {
		setDefault(&s.PayloadFormat, s.Dialect)
	}
	setDefault(&s.Status, Active)
	setDefault(&s.Version, DefaultVersion)
	setDefault(&s.Signing, SignHMAC)
	setDefault(&s.Timeout, DefaultTimeout)
	setDefault(&s.MaxInFlight, DefaultMaxInFlight)
	if s.Ordering != nil && s.Ordering.OnDead == "" {
		s.Ordering = &Ordering{Key: s.Ordering.Key, OnDead: ContinueOnDead}
	}
	if s.Status != Disabled {
		s.DisabledReason = ""
	}
	s.EventTypes = distinct(s.EventTypes)
	s.Changed = distinct(s.Changed)
	s.Scopes = distinct(s.Scopes)
}

func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

// distinct drops the entries that repeat an earlier one.
func distinct(list []string) []string {
	var kept []string
	seen := make(map[string]bool, len(list))
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			kept = append(kept, s)
		}
	}
	return kept
}

// validate judges a filled subscription; its error is an *Invalid. It brings the URL to the form that is requested.
func (s *Store) validate(sub *Subscription) error {
	bad := &Invalid{}
	if sub.Tenant == "" {
		bad.addf("tenant", "is required")
	}
	bad.add("name", checkText(sub.Name, maxName))
	bad.add("description", checkProse(sub.Description, maxDescription))
	s.validateURL(sub, bad)
	validateMatching(sub, bad)
	validateHeaders(sub.Headers, bad)
	validateMasks(sub, bad)
	validateContentType(sub, bad)
	s.validateAuth(sub, bad)
	validateCertificate(sub, bad)
	validateSending(sub, bad)
	validateSecrets(sub, bad)
	validateRest(sub, bad)
	return bad.orNil()
}

func (s *Store) validateURL(sub *Subscription, bad *Invalid) {
	if sub.URL == "" {
		bad.addf("url", "is required")
		return
	}
	sub.URL = s.judgeURL(sub.URL, "url", bad)
}

// judgeURL judges a URL that requests go to, and returns it in the form that is requested.
func (s *Store) judgeURL(raw, field string, bad *Invalid) string {
	judged, err := s.policy.CheckURL(raw)
	if err != nil {
		bad.add(field, err)
		return raw
	}
	// Only the host may have been rewritten, to ASCII; else the URL stays as it was given, to the letter.
	if given, err := url.Parse(raw); err != nil || given.Host != judged.Host {
		return judged.String()
	}
	return raw
}

func validateMatching(sub *Subscription, bad *Invalid) {
	// Passona's webhooks have no event types: they receive what names them as a target.
	if len(sub.EventTypes) == 0 && sub.Dialect != Passona {
		bad.addf("event_types", "must have at least one entry; * is every type")
	}
	if len(sub.EventTypes) > MaxEventTypes {
		bad.addf("event_types", "must not have more than %d entries", MaxEventTypes)
		return
	}
	for i, t := range sub.EventTypes {
		bad.add(fmt.Sprintf("event_types[%d]", i), ValidPattern(t))
	}
	bad.add("resource_id", checkBytes(sub.ResourceID, maxAttribute))
	if len(sub.Changed) > maxAttributes {
		bad.addf("changed", "must not have more than %d entries", maxAttributes)
		return
	}
	for i, attribute := range sub.Changed {
		field := fmt.Sprintf("changed[%d]", i)
		if attribute == "" {
			bad.addf(field, "must not be empty")
		}
		bad.add(field, checkBytes(attribute, maxAttribute))
	}
	if sub.Filter != "" {
		bad.add("filter", ValidFilter(sub.Filter))
	}
	validateOrdering(sub.Ordering, bad)
}

func validateSending(sub *Subscription, bad *Invalid) {
	if !slices.Contains(PayloadFormats, sub.PayloadFormat) {
		bad.addf("payload_format", "must be one of %s", strings.Join(PayloadFormats, ", "))
	}
	if len(sub.Retry.Schedule) > maxSchedule {
		bad.addf("retry.schedule", "must not have more than %d entries", maxSchedule)
	}
	for i, d := range sub.Retry.Schedule[:min(len(sub.Retry.Schedule), maxSchedule)] {
		duration(bad, fmt.Sprintf("retry.schedule[%d]", i), d, minDelay, maxDelay)
	}
	if n := sub.Retry.MaxRetries; n != nil {
		between(bad, "retry.max_retries", *n, 0, maxRetriesLimit)
	}
	duration(bad, "timeout", sub.Timeout, minTimeout, MaxTimeout)
	between(bad, "max_in_flight", sub.MaxInFlight, 1, maxMaxInFlight)
	if r := sub.RateLimit; r != nil {
		between(bad, "rate_limit.limit", r.Limit, 1, maxRateLimit)
		duration(bad, "rate_limit.per", r.Per, minRatePer, maxRatePer)
		perSecond := float64(r.Limit) / r.Per.Seconds()
		if r.Limit > 0 && r.Per > 0 && (perSecond > maxRatePerSecond || perSecond*60 < minRatePerMinute) {
			bad.addf("rate_limit", "must be between %d a minute and %d a second", minRatePerMinute, maxRatePerSecond)
		}
	}
}

func between(bad *Invalid, field string, n, low, high int) {
	if n < low || n > high {
		bad.addf(field, "must be between %d and %d", low, high)
	}
}

func duration(bad *Invalid, field string, d, low, high time.Duration) {
	if d < low || d > high || d%time.Millisecond != 0 {
		bad.addf(field, "must be between %s and %s, in whole milliseconds", formatDuration(low), formatDuration(high))
	}
}

// validateSecrets judges secrets, and brings those that callers gave to the form that is stored.
func validateSecrets(sub *Subscription, bad *Invalid) {
	if sub.Signing != SignHMAC && sub.Signing != SignEd25519 {
		bad.addf("signing", "must be %s or %s", SignHMAC, SignEd25519)
		return
	}
	for i, secret := range sub.Secrets {
		if i > maxOldSecrets {
			bad.addf("secret", "has too many old secrets beside it")
			return
		}
		switch {
		case sub.Dialect == Native:
			stored, err := readSecret(secret.Value, sub.Signing)
			bad.add("secret", err)
			if err == nil && stored != secret.Value {
				sub.Secrets = slices.Clone(sub.Secrets)
				sub.Secrets[i].Value = stored
			}
		case secret.Value == "":
			bad.addf("secret", "must not be empty")
		default:
			bad.add("secret", checkBytes(secret.Value, maxDialectSecret))
		}
	}
}

func validateRest(sub *Subscription, bad *Invalid) {
	if sub.Status != Active && sub.Status != Paused && sub.Status != Disabled {
		bad.addf("status", "must be %s, %s or %s", Active, Paused, Disabled)
	}
	bad.add("disabled_reason", checkText(sub.DisabledReason, maxReason))
	if sub.Version != DefaultVersion {
		bad.addf("version", "must be %s", DefaultVersion)
	}
	if len(sub.Metadata) > maxMetadata {
		bad.addf("metadata", "must not have more than %d entries", maxMetadata)
		return
	}
	for key, text := range sub.Metadata {
		if key == "" || len(key) > maxMetadataKey || checkText(key, maxMetadataKey) != nil {
			bad.addf("metadata", "must have keys of 1 to %d characters, without control characters", maxMetadataKey)
			continue
		}
		bad.add("metadata."+key, checkProse(text, maxMetadataVal))
	}
}

// checkText judges one line of text.
func checkText(s string, most int) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("must not hold control characters")
	}
	return checkProse(s, most)
}

// checkProse judges text that may have several lines.
func checkProse(s string, most int) error {
	if !utf8.ValidString(s) {
		return errors.New("must be valid UTF-8")
	}
	if utf8.RuneCountInString(s) > most {
		return fmt.Errorf("must not be longer than %d characters", most)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }) {
		return errors.New("must not hold control characters")
	}
	return nil
}

// checkBytes judges one line of text by its bytes.
func checkBytes(s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("must not be longer than %d bytes", most)
	}
	return checkText(s, most)
}
