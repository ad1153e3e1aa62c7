package api

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// inner is huma.Context under a name that leaves its method Context reachable where it is embedded.
type inner = huma.Context

// humaContext is one request as huma sees it.
type humaContext struct {
	inner
	w http.ResponseWriter
	r *http.Request

	notModified bool // the caller has the version that is answered
}

func newContext(op *huma.Operation, w http.ResponseWriter, r *http.Request) *humaContext {
	return &humaContext{inner: humago.NewContext(op, r, w), w: w, r: r}
}

// Unwrap lets humago.Unwrap find the request.
func (c *humaContext) Unwrap() huma.Context { return c.inner }

// URL hides ?tenant=, which the guard has judged, from huma's check for unknown parameters. Operations of the
// installation take it only where they say so.
func (c *humaContext) URL() url.URL {
	u := *c.r.URL
	req := requestFrom(c.r.Context())
	if req != nil && req.query.Has("tenant") && !ofInstallation(c.Operation()) {
		query := u.Query()
		query.Del("tenant")
		u.RawQuery = query.Encode()
	}
	return u
}

// Header hides Accept: the API speaks JSON and nothing else.
func (c *humaContext) Header(name string) string {
	if name == "Accept" {
		return ""
	}
	return c.r.Header.Get(name)
}

// BodyReader marks errors of reading and lifts the deadline at the end.
func (c *humaContext) BodyReader() io.Reader {
	return &body{ReadCloser: c.r.Body, w: c.w}
}

// SetHeader looks at the version of a GET's answer, for If-None-Match.
func (c *humaContext) SetHeader(name, value string) {
	c.inner.SetHeader(name, value)
	if name == "ETag" && c.r.Method == http.MethodGet {
		c.notModified = names(strings.Join(c.r.Header.Values("If-None-Match"), ","), value)
	}
}

// SetStatus answers 304 where the caller has the version.
func (c *humaContext) SetStatus(status int) {
	if c.notModified = c.notModified && status == http.StatusOK; c.notModified {
		c.w.Header().Del("Content-Type")
		status = http.StatusNotModified
	}
	c.inner.SetStatus(status)
}

// BodyWriter discards the body of a 304, which has none.
func (c *humaContext) BodyWriter() io.Writer {
	if c.notModified {
		return io.Discard
	}
	return c.inner.BodyWriter()
}
