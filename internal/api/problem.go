package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Problem is an error as RFC 9457 has it.
type Problem = huma.ErrorModel

// Detail is one entry of a problem's errors.
type Detail = huma.ErrorDetail

// retryAfter is what a 503 tells clients to wait, in seconds: a broker or database that restarts needs about that.
const retryAfter = 2

func problem(status int, detail string, details ...error) *Problem {
	p := &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
	for _, err := range details {
		p.Add(err)
	}
	return p
}

// At is one entry of a problem's errors. The location is as in body.url, body.retry.schedule[0], query.limit, path.id.
func At(location, message string) error { return &Detail{Location: location, Message: message} }

// Invalid is a 422 with the first 50 errors and their places; see At.
func Invalid(details ...error) error {
	return problem(http.StatusUnprocessableEntity, "validation failed", details[:min(len(details), maxDetails)]...)
}

// NotFound is the 404 for a missing resource, another tenant's, and a malformed id: nothing tells
// them apart.
func NotFound() error { return problem(http.StatusNotFound, notFoundDetail) }

const notFoundDetail = "there is nothing here"

// Forbidden is a 403.
func Forbidden(detail string) error { return problem(http.StatusForbidden, detail) }

// Conflict is a 409, with the first 50 places of what it is about; see At.
func Conflict(detail string, places ...error) error {
	return problem(http.StatusConflict, detail, places[:min(len(places), maxDetails)]...)
}

// Gone is a 410.
func Gone(detail string) error { return problem(http.StatusGone, detail) }

// Stale is a 412: If-Match names another version than the current one.
func Stale() error {
	return problem(http.StatusPreconditionFailed, "the resource has changed since", At("header.If-Match", "is not the current version"))
}

// TooManyRequests is a 429 with Retry-After, in seconds.
func TooManyRequests(detail string, seconds int) error {
	return withHeader(problem(http.StatusTooManyRequests, detail), "Retry-After", strconv.Itoa(seconds))
}

// limitType is the type of the problem of a limit. It is an address below that of the API, which serves nothing there.
const limitType = "/problems/limit"

// LimitError says that a tenant may not have or do more. It is a 422, or a 429 where waiting helps.
type LimitError struct {
	Limit      string // its name
	Message    string // what the limit is
	RetryAfter time.Duration
}

func (e *LimitError) Error() string { return "the limit " + e.Limit + " is reached: " + e.Message }

func (e *LimitError) problem() (*Problem, http.Header) {
	status, header := http.StatusUnprocessableEntity, http.Header{}
	if e.RetryAfter > 0 {
		status = http.StatusTooManyRequests
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	p := problem(status, e.Error(), At(e.Limit, e.Message))
	p.Type, p.Title = limitType, "Limit reached"
	return p, header
}

// Unavailable is a 503 with Retry-After. The cause is logged and not told.
func Unavailable(cause error) error { return &unavailable{cause} }

type unavailable struct{ cause error }

func (e *unavailable) Error() string     { return "unavailable: " + e.cause.Error() }
func (e *unavailable) Unwrap() error     { return e.cause }
func (e *unavailable) Unavailable() bool { return true }

func tooLarge(limit int64) *Problem {
	return problem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the request body is larger than %d bytes", limit))
}

func unauthenticated(detail string) error {
	return withHeader(problem(http.StatusUnauthorized, detail), "WWW-Authenticate", `Bearer realm="fanfare"`)
}

func withHeader(err error, name, value string) error {
	return huma.ErrorWithHeaders(err, http.Header{name: {value}})
}

// ProblemOf is the problem that an error is to the caller, and the headers that go with it. What is no problem by itself is
// told without details: 401, 503, or 500.
func ProblemOf(ctx context.Context, err error) (*Problem, http.Header) {
	header := http.Header{}
	if with, ok := errors.AsType[huma.HeadersError](err); ok {
		header = with.GetHeaders().Clone()
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return p, header
	}
	if limit, ok := errors.AsType[*LimitError](err); ok {
		return limit.problem()
	}
	if read, ok := errors.AsType[*bodyError](err); ok {
		return read.problem(), header
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(large.Limit), header
	}
	if status, ok := errors.AsType[huma.StatusError](err); ok {
		return problem(status.GetStatus(), status.Error()), header
	}
	switch {
	case errors.Is(err, ErrUnauthenticated), callerEnded(ctx, err):
		header.Set("WWW-Authenticate", `Bearer realm="fanfare", error="invalid_token"`)
		return problem(http.StatusUnauthorized, ErrUnauthenticated.Error()), header
	case isUnavailable(ctx, err):
		header.Set("Retry-After", strconv.Itoa(retryAfter))
		return problem(http.StatusServiceUnavailable, "a part of the system is away; try again"), header
	}
	return problem(http.StatusInternalServerError, ""), header
}

// callerEnded reports whether the request was given up because its caller may no longer act.
func callerEnded(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), ErrUnauthenticated)
}

func isUnavailable(ctx context.Context, err error) bool {
	if away, ok := errors.AsType[interface {
		error
		Unavailable() bool
	}](err); ok && away.Unavailable() {
		return true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	r := requestFrom(ctx)
	return r != nil && r.adapter != nil && r.cfg.Unavailable != nil && r.cfg.Unavailable(err)
}

// WriteProblem answers with a problem of this status.
func WriteProblem(w http.ResponseWriter, status int, detail string, details ...error) {
	writeProblem(w, problem(status, detail, details...))
}

// WriteError answers with the problem that err is, and logs what the caller is not told.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	p, header := ProblemOf(r.Context(), err)
	logError(r.Context(), p.Status, err)
	for name, values := range header {
		w.Header()[name] = values
	}
	writeProblem(w, p)
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	p = complete(p)
	body, err := encode(p)
	if err != nil { // a value among the details that is no JSON
		p.Errors = nil
		body, _ = encode(p)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // who hung up misses nothing
}

func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return buf.Bytes(), err
}

func logError(ctx context.Context, status int, err error) {
	r := requestFrom(ctx)
	if status < 500 || r == nil || r.adapter == nil || r.cfg.Logger == nil || ctx.Err() != nil {
		return
	}
	if status == http.StatusServiceUnavailable {
		r.cfg.Logger.WarnContext(ctx, "request refused", "method", r.method, "route", r.route, "error", err)
		return
	}
	r.cfg.Logger.ErrorContext(ctx, "request failed", "method", r.method, "route", r.route, "error", err)
}

// complete fills what huma leaves empty.
func complete(p *Problem) *Problem {
	filled := *p
	if filled.Type == "" {
		filled.Type = "about:blank"
	}
	if filled.Title == "" {
		filled.Title = http.StatusText(filled.Status)
	}
	return &filled
}

// completeProblem is complete as huma calls it, for problems that operations return.
func completeProblem(_ huma.Context, _ string, v any) (any, error) {
	if p, ok := v.(*Problem); ok {
		return complete(p), nil
	}
	return v, nil
}
