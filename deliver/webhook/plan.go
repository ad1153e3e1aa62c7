package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// UserAgent is that of every delivery, so that receivers can tell and allow them.
const UserAgent = "Fanfare/1 (+https://github.com/fanfarehq/fanfare)"

// touchEvery is how many uses of a plan make it the most recent one of the cache. That needs a lock that one goroutine
// has at a time: when its holder lost the processor, hundreds of requests queued for it.
const touchEvery = 32

// plan is all of a subscription's requests that is the same in each: made once, then only read.
type plan struct {
	uses         atomic.Uint32
	subscription *subscriptions.Subscription // the one that it was made of
	request      *http.Request               // without headers and body
	header       http.Header
	format       *Format
	signer       Signer
	timeout      time.Duration
	resends      int
	route        *egress.Route // nil if its requests are for the client
	// What only subscriptions with auth have: see postWithToken, identities and conceal. The Authorization of those whose
	// credentials do not change is among the header.
	tokens      *tokens
	certificate *certificate
	conceal     *conceal
}

// plan returns the subscription's plan. The Directory hands out another pointer when a subscription changes,
// so the pointer says whether a kept plan still holds.
func (p *Poster) plan(sub *subscriptions.Subscription) (*plan, error) {
	if kept, ok := p.plans.Peek(sub.ID); ok && kept.subscription == sub {
		if kept.uses.Add(1)%touchEvery == 0 {
			p.plans.Get(sub.ID)
		}
		return kept, nil
	}
	if sub.Auth != nil || sub.Certificate != nil {
		return p.planWithAuth(sub)
	}
	made, err := p.newPlan(sub)
	if err != nil {
		return nil, err
	}
	p.plans.Add(sub.ID, made)
	return made, nil
}

// planWithAuth is plan for subscriptions with auth or certificate, of which there must be one at a time: who plans at the same
// time shall wait for the same token. What another change of the subscription leaves as it was is kept.
func (p *Poster) planWithAuth(sub *subscriptions.Subscription) (*plan, error) {
	p.planning.Lock()
	defer p.planning.Unlock()
	kept, ok := p.plans.Get(sub.ID)
	if ok && kept.subscription == sub {
		return kept, nil
	}
	made, err := p.newPlan(sub)
	if err != nil {
		return nil, err
	}
	if made.conceal = newConceal(sub.Auth); ok && kept.tokens != nil && reflect.DeepEqual(kept.subscription.Auth, sub.Auth) {
		made.tokens = kept.tokens
	} else if made.tokens, err = p.newTokens(sub.Auth); err != nil {
		return nil, err
	}
	if made.certificate, err = newCertificate(sub); err != nil {
		return nil, err
	}
	if made.tokens != nil || made.certificate != nil {
		made.route = nil // The header changes with the token; a certificate has connections of its own.
	}
	if ok && kept.certificate != nil && (made.certificate == nil || made.certificate.key != kept.certificate.key) {
		p.identities.drop(kept.certificate.key)
	}
	p.plans.Add(sub.ID, made)
	return made, nil
}

func (p *Poster) newPlan(sub *subscriptions.Subscription) (*plan, error) {
	if sub.Err != nil {
		return nil, fmt.Errorf("read subscription: %w", sub.Err)
	}
	format, ok := p.formats[sub.PayloadFormat]
	if !ok {
		return nil, fmt.Errorf("no payload format %q", sub.PayloadFormat)
	}
	target, err := url.Parse(sub.URL)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, errors.New("the URL cannot be requested")
	}
	target.User = nil
	target.RawQuery = egress.EncodeQuery(target.RawQuery)
	header, err := fixedHeaders(sub, format)
	if err != nil {
		return nil, err
	}
	signer, err := format.Signer(sub.Secrets)
	if err != nil {
		return nil, fmt.Errorf("prepare signature: %w", err)
	}
	timeout := sub.Timeout
	if timeout <= 0 {
		timeout = subscriptions.DefaultTimeout
	}
	return &plan{
		subscription: sub,
		request: &http.Request{
			Method: http.MethodPost, URL: target, Host: target.Host,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		},
		header:  header,
		format:  format,
		signer:  signer,
		timeout: min(timeout, subscriptions.MaxTimeout),
		resends: mostResends(target.Scheme),
		route:   egress.NewRoute(p.transport, sub.Tenant, target, header),
	}, nil
}

// fixedHeaders are the headers that every request of the subscription has: those it asked for, and over them
// Fanfare's own. Content-Type is the only one of ours that a subscription may set.
func fixedHeaders(sub *subscriptions.Subscription, format *Format) (http.Header, error) {
	header := make(http.Header, len(sub.Headers)+6)
	header.Set("Content-Type", cmp.Or(sub.ContentType, format.ContentType))
	for name, value := range sub.Headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("header %q cannot be sent", name)
		}
		if !reserved(name) {
			header.Set(name, value)
		}
	}
	header.Set("User-Agent", UserAgent)
	if value := authorization(sub.Auth); value != "" {
		header.Set("Authorization", value)
	}
	return header, nil
}

// reserved says whether a header is not the subscription's to set: those that frame the message or belong to
// the connection, those that Fanfare writes, and those that would make net/http send a POST again by itself.
func reserved(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "host", "content-length", "transfer-encoding", "content-encoding", "trailer", "te",
		"connection", "keep-alive", "upgrade", "expect", "http2-settings",
		"user-agent", "accept-encoding", "traceparent", "tracestate",
		"idempotency-key", "x-idempotency-key":
		return true
	}
	return strings.HasPrefix(name, "webhook-") || strings.HasPrefix(name, "proxy-") || strings.HasPrefix(name, ":")
}

// ownHeaders are those of one attempt alone.
func (pl *plan) ownHeaders(m Message) (http.Header, error) {
	header := make(http.Header, 4)
	if trace := m.TraceParent; validTraceParent(trace) {
		header["Traceparent"] = []string{trace}
	}
	if media := m.Event.ContentType; media != "" && pl.format.Published && pl.header.Get("Content-Type") == pl.format.ContentType {
		header["Content-Type"] = []string{media}
	}
	if err := pl.signer.Sign(header, m); err != nil {
		return nil, err
	}
	return header, nil
}

// headers are all of one attempt: its own replace those of the plan.
func (pl *plan) headers(own http.Header) http.Header {
	header := maps.Clone(pl.header)
	maps.Copy(header, own)
	return header
}

// validTraceParent says whether a value is a W3C trace context of version 00. What is not is left out: a
// publisher's broken tracing must not cost a delivery.
func validTraceParent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" {
		return false
	}
	for i := 3; i < len(s); i++ {
		if i == 35 || i == 52 {
			if s[i] != '-' {
				return false
			}
			continue
		}
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}
