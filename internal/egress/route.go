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

// Route sends small POSTs to one URL, again and again, by HTTP/1.1: their common part is judged and written once, and none needs a
// context, timer or http.Request of its own. Many goroutines may use one.
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
	if r == nil || len(p.Body) == 0 || len(p.Body) > maxInline || !r.http1.reaches(r.to) || !plainHeader(p.Header) {
		return false
	}
	for name := range p.Header {
		if _, ok := r.fixed[name]; ok {
			return false
		}
	}
	return true
}

// Post makes a POST that Takes agreed to, and again, as often as its Resends allow, where nothing of it was written to a
// connection that had been kept. Its error is ErrOffRoute if the receiver may speak another protocol by now. When ctx ends so do
// the POST and, though it may be kept for others already, its connection: ctx should last for many POSTs.
func (r *Route) Post(ctx context.Context, p *Post) (*http.Response, error) {
	for {
		c, err := r.http1.connection(ctx, r.to, p)
		if err != nil {
			return nil, err
		}
		resp, err := c.exchange(ctx, r, p)
		if err == nil {
			return resp, nil
		}
		if r.to.secure && ClassOf(err) == Protocol {
			r.http1.doubt(r.to)
		}
		if !c.kept || !errors.Is(err, errNothingWritten) || p.Resent == p.Resends {
			return nil, err
		}
		p.Resent++
	}
}

// write writes all of a POST.
func (r *Route) write(w *bytes.Buffer, p *Post) {
	w.Write(r.head)
	_ = p.Header.Write(w) // a buffer takes it all
	writeLength(w, int64(len(p.Body)))
	w.Write(p.Body)
}
