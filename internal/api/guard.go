package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// guard stands before one operation, or before a handler that is none.
type guard struct {
	*adapter
	op      *huma.Operation // nil for handlers outside the document
	scopes  []string        // what the caller must hold; none: being known is enough
	instead string          // a scope that takes the place of all of scopes; empty: none
	public  bool            // nobody is asked who he is
	maxBody int64           // 0: no body, or no bound
	next    http.Handler
}

// request is what the guard learned of a request. One pointer in the context carries it all.
type request struct {
	*adapter
	caller     Caller
	remote     string // the peer's address without port
	method     string
	route, uri string     // the operation's path, and the one that was asked for
	query      url.Values // nil where there is none
}

type requestKey struct{}

func requestFrom(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// guard of an operation. It panics where neither Scope nor Public was said.
func (a *adapter) guard(op *huma.Operation) *guard {
	g := &guard{adapter: a, op: op, maxBody: op.MaxBodyBytes}
	_, g.public = op.Metadata[publicKey]
	scope, ok := op.Metadata[scopeKey].(string)
	if ok == g.public {
		panic(fmt.Sprintf("api: %s must have either a Scope or be Public", pattern(op)))
	}
	g.scopes = strings.Fields(scope)
	g.instead, _ = op.Metadata[insteadKey].(string)
	if op.RequestBody != nil && (g.maxBody == 0 || g.maxBody == humaMaxBody) {
		g.maxBody = defaultMaxBody
		op.MaxBodyBytes = g.maxBody
	}
	return g
}

// open is the guard of public pages that are not operations.
func (a *adapter) open(next http.Handler) http.Handler {
	return &guard{adapter: a, public: true, next: next}
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := &response{ResponseWriter: w}
	defer g.recover(out, r)
	secure(w.Header())
	req := &request{adapter: g.adapter, method: r.Method, uri: r.URL.Path, remote: host(r.RemoteAddr)}
	if g.op != nil {
		req.route = g.op.Path
	}
	ctx := context.WithValue(r.Context(), requestKey{}, req)
	if err := g.admit(ctx, req, r); err != nil {
		WriteError(out, r.WithContext(ctx), err)
		return
	}
	if g.watcher != nil && !g.public {
		watched, done := g.watcher.Watch(ctx, req.caller)
		defer done()
		ctx = watched
	}
	g.next.ServeHTTP(out, r.WithContext(ctx))
}

// secure sets the headers of every answer. Answers hold secrets and other people's text: they are not kept by caches, not
// guessed at, not framed, and run nothing.
func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
}

func host(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}

// admit judges what needs no knowledge of the operation's input.
func (g *guard) admit(ctx context.Context, req *request, r *http.Request) error {
	if !clean(r.URL.Path) {
		return NotFound()
	}
	if g.maxBody > 0 && r.ContentLength > g.maxBody {
		return tooLarge(g.maxBody)
	}
	if r.URL.RawQuery != "" {
		if err := req.readQuery(r.URL.RawQuery); err != nil {
			return err
		}
		if err := g.once(req.query); err != nil {
			return err
		}
	}
	if g.public {
		return nil
	}
	credential, err := credentialOf(r.Header)
	if err != nil {
		return err
	}
	if req.caller, err = g.auth.Authenticate(ctx, credential); err != nil {
		return err
	}
	if err := g.permit(req.caller); err != nil {
		return err
	}
	return req.checkTenant()
}

// permit is a 403 unless the caller holds the scopes of the operation.
func (g *guard) permit(c Caller) error {
	if g.instead != "" && c.Has(g.instead) {
		return nil
	}
	for _, scope := range g.scopes {
		if err := c.Require(scope); err != nil {
			return err
		}
	}
	return nil
}

// clean says that Postgres can store the text.
func clean(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

func (r *request) readQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return problem(http.StatusBadRequest, "the query string is malformed")
	}
	for name, values := range query {
		if !clean(name) || slices.ContainsFunc(values, func(v string) bool { return !clean(v) }) {
			return Invalid(At("query", "must be valid UTF-8 without U+0000"))
		}
	}
	r.query = query
	return nil
}

// once is a 422 if a parameter is there several times that takes one value: the others would be passed over in silence.
func (g *guard) once(query url.Values) error {
	if g.op == nil {
		return nil
	}
	for _, p := range g.op.Parameters {
		if many := p.Explode != nil && *p.Explode; p.In == "query" && len(query[p.Name]) > 1 && !many {
			return Invalid(At("query."+p.Name, "must be there once"))
		}
	}
	return nil
}

// checkTenant judges ?tenant= once for all operations.
func (r *request) checkTenant() error {
	asked, ok := r.query["tenant"]
	if !ok {
		return nil
	}
	if len(asked) != 1 || !ValidTenant(asked[0]) {
		return Invalid(At("query.tenant", "is not the name of a tenant"))
	}
	return r.caller.mayActFor(asked[0])
}

// credentialOf finds the key or token that a request carries.
func credentialOf(h http.Header) (string, error) {
	var found []string
	for _, value := range h.Values("Authorization") {
		scheme, credential, _ := strings.Cut(value, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", unauthenticated("the Authorization header must be Bearer and a key")
		}
		found = append(found, strings.TrimSpace(credential))
	}
	found = append(found, h.Values("X-API-Key")...)
	switch found = slices.Compact(found); {
	case len(found) == 0 || found[0] == "":
		return "", unauthenticated("a key is needed: Authorization: Bearer <key>, or X-API-Key: <key>")
	case len(found) > 1:
		return "", unauthenticated("the request carries several keys")
	}
	return found[0], nil
}

// recover turns a panic into 500. If the answer has begun, the connection is cut instead, so that nobody takes the
// part for the whole.
func (g *guard) recover(w *response, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if g.cfg.Logger == nil {
		panic(cause)
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	g.cfg.Logger.ErrorContext(r.Context(), "request panicked",
		"method", r.Method, "route", r.Pattern, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	WriteProblem(w, http.StatusInternalServerError, "")
}

// response knows whether the answer has begun.
type response struct {
	http.ResponseWriter
	begun bool
}

func (w *response) WriteHeader(status int) {
	w.begun = w.begun || status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
