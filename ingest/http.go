package ingest

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// ServeHTTP answers POST /v1/events. It is a handler of its own, beside the operations that are made from Go
// types, as it is the path that all load takes.
func (in *Ingest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	size, p := in.size(r)
	if p == nil {
		p = checkQuery(r)
	}
	if p != nil {
		if p.Status == http.StatusUnsupportedMediaType {
			w.Header().Set("Accept-Encoding", api.AcceptEncoding)
		}
		in.refuse(w, p)
		return
	}
	up := &upload{in: in, w: w, r: r, tenant: api.CallerFrom(r.Context()).Tenant}
	defer up.leave()
	if p := up.receive(size); p != nil {
		in.refuse(w, p)
		return
	}
	req, err := read(r.Header, up.body, in.cfg.MaxEvents)
	if err != nil {
		in.refuse(w, in.unreadable(err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), in.cfg.Timeout-up.waited)
	defer cancel()
	if p := in.address(ctx, r, req); p != nil {
		in.refuse(w, p)
		return
	}
	if err := in.bulk.wait(ctx, up.tenant, len(up.body)); err != nil {
		in.refuse(w, crowded())
		return
	}
	ctx, span := in.trace(ctx, r, req.items)
	in.accept(ctx, req.items)
	in.metrics.count(req.items)
	traced(span, req.items)
	if req.single {
		answerOne(w, req.items[0])
		return
	}
	answerMany(w, req.items)
}

// checkQuery refuses what the query should not hold: a misspelt name must not pass in silence.
func checkQuery(r *http.Request) *api.Problem {
	if r.URL.RawQuery == "" {
		return nil
	}
	for name := range r.URL.Query() {
		if name != "tenant" {
			p := problem(http.StatusUnprocessableEntity, "the query is not valid")
			p.Errors = append(p.Errors, &api.Detail{Location: "query." + clip(name), Message: "unknown parameter"})
			return p
		}
	}
	return nil
}

// size returns how many bytes the request may have, by its own word.
func (in *Ingest) size(r *http.Request) (int64, *api.Problem) {
	if api.Encoded(r.Header) {
		return 0, problem(http.StatusUnsupportedMediaType, "Content-Encoding is not supported: send the body as it is")
	}
	switch {
	case r.ContentLength > in.cfg.MaxBytes:
		return 0, in.tooLarge()
	case r.ContentLength < 0:
		return in.cfg.MaxBytes, nil
	}
	return r.ContentLength, nil
}

func (in *Ingest) tooLarge() *api.Problem {
	return problem(http.StatusRequestEntityTooLarge, "a request may have "+strconv.FormatInt(in.cfg.MaxBytes, 10)+
		" bytes and "+strconv.Itoa(in.cfg.MaxEvents)+" events at most")
}

// unreadable is the problem of a body that could not be read as events.
func (in *Ingest) unreadable(err error) *api.Problem {
	switch {
	case errors.Is(err, errMedia):
		return problem(http.StatusUnsupportedMediaType, err.Error())
	case errors.Is(err, errTooMany):
		return in.tooLarge()
	}
	return malformed(err, "body")
}

// address gives each event its tenant, and the one event its id where that is in a header. A problem is about
// the request as a whole.
func (in *Ingest) address(ctx context.Context, r *http.Request, req request) *api.Problem {
	if p := keyed(r, req); p != nil {
		return p
	}
	type answer struct {
		tenant  string
		problem *api.Problem
	}
	known := make(map[string]answer, 1) // Most requests name one tenant, or none.
	for _, it := range req.items {
		if it.problem != nil {
			continue
		}
		a, ok := known[it.event.Tenant]
		if !ok {
			tenant, err := api.TenantOf(ctx, it.event.Tenant)
			if err != nil {
				a.problem, _ = api.ProblemOf(ctx, err)
			}
			a.tenant = tenant
			known[it.event.Tenant] = a
		}
		if a.problem != nil {
			it.problem, it.reason = a.problem, string(event.BadTenant)
			if it.unstored = a.problem.Status == http.StatusServiceUnavailable; it.unstored {
				it.reason = reasonUnstored
			}
			continue
		}
		it.event.Tenant = a.tenant
	}
	return nil
}

// keyed takes the id from the Idempotency-Key header, which is for one event.
func keyed(r *http.Request, req request) *api.Problem {
	key, message := idempotencyKey(r.Header)
	if key == "" && message == "" {
		return nil
	}
	switch it := req.items; {
	case message != "":
	case !req.single:
		message = "is for one event: give each event of an array its id"
	case it[0].event.Cloud != nil && it[0].event.Cloud.ID == key:
		return nil
	case it[0].event.ID != "" && it[0].event.ID != key:
		message = "must be the event's id, if both are given"
	case event.CheckID(key) != nil:
		message = event.CheckID(key).Faults[0].Message
	default:
		it[0].event.ID = key
		return nil
	}
	p := problem(http.StatusUnprocessableEntity, "the event is not valid")
	p.Errors = append(p.Errors, &api.Detail{Location: "header.Idempotency-Key", Message: message})
	return p
}

// idempotencyKey reads the Idempotency-Key header: a bare key, or a string in quotes as structured fields have it.
func idempotencyKey(h http.Header) (key, message string) {
	text := strings.Trim(strings.Join(h.Values("Idempotency-Key"), ","), " \t")
	if !strings.HasPrefix(text, `"`) {
		return text, ""
	}
	inner, closed := strings.CutSuffix(text[1:], `"`)
	// In a structured string only quotes and backslashes are escaped.
	key = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(inner)
	if !closed || key == "" {
		return "", "must be a key, or a key in quotes"
	}
	return key, ""
}

// refuse answers a request as a whole.
func (in *Ingest) refuse(w http.ResponseWriter, p *api.Problem) {
	in.metrics.refused.WithLabelValues(requestReason(p.Status)).Inc()
	writeProblem(w, p.Status, p)
}

// requestReason is the metric's word for a request that is refused as a whole.
func requestReason(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return string(event.TooLarge)
	case http.StatusUnsupportedMediaType:
		return reasonMediaType
	case http.StatusServiceUnavailable:
		return reasonCrowded
	case http.StatusUnprocessableEntity:
		return string(event.BadAttribute)
	}
	return reasonMalformed
}
