package egress

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// ErrOffRoute says that a Route cannot make a POST: it is for the client. Nothing was sent.
var ErrOffRoute = errors.New("the POST is not one for a route")

// Route is the way of small POSTs that go to one URL again and again, if they go by HTTP/1.1: what they have in common is judged
// and written once, and no context, timer or http.Request is made for each. Many goroutines may use one.
type Route struct {
	http1 *http1
	to    recipient
	fixed http.Header
	head  []byte
}

// Post is one POST by a Route.
type Post struct {
	Progress

	Header   http.Header // beside that of the Route
	Body     []byte
	Until    time.Time     // it fails if it has not ended by then, the body of the response included
	BodyTime time.Duration // for reading the response's body once its header is complete
	Resends  int           // how often it may be made again where nothing of it was sent
	Resent   int           // how often it was
}

// NewRoute makes a Route for a tenant's POSTs by the transport of a client of NewClient, all with these headers. It returns nil
// if none may go by a route. Whether a receiver with TLS speaks HTTP/1.1 is not known in advance: see Takes and ErrOffRoute.
func NewRoute(by http.RoundTripper, tenant string, u *url.URL, header http.Header) *Route {
	t, ok := by.(*transport)
	target := u.RequestURI()
	if !ok || t.http1 == nil || !plainURL(u) || !plainHeader(header) || !onOneLine(target) {
		return nil
	}
	var head bytes.Buffer
	writeHead(&head, target, u.Host, header)
	return &Route{http1: t.http1, to: recipientOf(tenant, u), fixed: header.Clone(), head: head.Bytes()}
}

// Takes says whether a POST is one for the Route. Of nil it is none.
func (r *Route) Takes(p *Post) bool {
	if r == nil || len(p.Body) == 0 || len(p.Body) > maxInline || !r.http1.reaches(r.to.secure, r.to.host) || !plainHeader(p.Header) {
		return false
	}
	for name := range p.Header {
		if _, ok := r.fixed[name]; ok {
			return false
		}
	}
	return true
}

// Post makes a POST that Takes agreed to. Its error is ErrOffRoute if the receiver may speak another protocol by now. When ctx
// ends so do the POST and, though it may be kept for others already, its connection: ctx should last for many POSTs.
func (r *Route) Post(ctx context.Context, p *Post) (*http.Response, error) {
	resp, err := r.http1.post(&post{
		ctx: ctx, to: r.to, terms: p, write: func(w *bytes.Buffer) error { return r.write(w, p) },
	})
	if errors.Is(err, errChooseAgain) {
		return nil, ErrOffRoute
	}
	return resp, err
}

// write writes all of a POST.
func (r *Route) write(w *bytes.Buffer, p *Post) error {
	w.Write(r.head)
	_ = p.Header.Write(w) // a buffer takes it all
	writeLength(w, int64(len(p.Body)))
	w.Write(p.Body)
	return nil
}

// mayRepeat says whether a POST may be made again, and counts it. Those of nobody's terms always may.
func (p *Post) mayRepeat() bool {
	if p == nil {
		return true
	}
	if p.Resent == p.Resends {
		return false
	}
	p.Resent++
	return true
}
