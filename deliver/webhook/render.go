package webhook

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Format is how an event looks on the wire: what a subscription's payload_format names.
type Format struct {
	Name        string
	ContentType string
	// Published says that the body is the data as it was published, so that it has the data's own content type if there
	// is one.
	Published bool
	// Body returns the event's bytes, always the same ones for the same event. It may return e.Data
	// itself: nobody writes to what it returns.
	Body func(e *event.Event) ([]byte, error)
	// Signer reads a subscription's secrets; NoSigner where the format signs nothing.
	Signer func(secrets []subscriptions.Secret) (Signer, error)
}

// Formats returns Fanfare's own formats. Those of dialects are given to NewPoster beside them.
func Formats() []Format {
	return []Format{
		{Name: "standard", ContentType: "application/json", Body: OfJSON(standardBody), Signer: newStandardSigner},
		{Name: "cloudevents", ContentType: "application/cloudevents+json", Body: cloudEventBody, Signer: newStandardSigner},
		{Name: "raw", ContentType: "application/json", Published: true, Body: rawBody, Signer: newStandardSigner},
	}
}

// Bodies keeps what one event is rendered to, so that all its targets and attempts share one copy of the
// bytes; the zero value is ready. The first attempt in a format renders while it holds the lock, so those
// that come at the same time wait for it (a copy of the data: microseconds) and nothing is rendered twice.
type Bodies struct {
	mu   sync.Mutex
	list []body // a handful at most: a slice is cheaper than a map
}

type body struct {
	format string
	bytes  []byte
	err    error
}

// of returns the event's bytes in a format. A nil Bodies renders anew.
func (b *Bodies) of(f *Format, e *event.Event) ([]byte, error) {
	if b == nil {
		return f.Body(e)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.list {
		if b.list[i].format == f.Name {
			return b.list[i].bytes, b.list[i].err
		}
	}
	bytes, err := f.Body(e)
	b.list = append(b.list, body{format: f.Name, bytes: bytes, err: err})
	return bytes, err
}

var errNoData = errors.New("the event has no data")

// needJSON refuses the data that a payload of JSON cannot carry.
func needJSON(e *event.Event) error {
	switch {
	case !e.JSON():
		return fmt.Errorf("the data is %s: only the payload formats raw and cloudevents carry data that is not JSON", e.ContentType)
	case len(e.Data) == 0:
		return errNoData
	}
	return nil
}

// OfJSON is a format's Body that carries JSON alone.
func OfJSON(body func(e *event.Event) ([]byte, error)) func(e *event.Event) ([]byte, error) {
	return func(e *event.Event) ([]byte, error) {
		if err := needJSON(e); err != nil {
			return nil, err
		}
		return body(e)
	}
}

// rawBody is the data as it was published, whatever it is.
func rawBody(e *event.Event) ([]byte, error) {
	if len(e.Data) == 0 && e.JSON() {
		return nil, errNoData
	}
	return e.Data, nil
}

// standardBody is the payload of Standard Webhooks. The data is copied, never encoded again: its numbers,
// the order of its keys and its spaces stay as they were published.
func standardBody(e *event.Event) ([]byte, error) {
	const frame = len(`{"type":"","timestamp":"","data":}`) + len(time.RFC3339Nano)
	w := jsonWriter{buf: make([]byte, 0, frame+len(e.Type)+len(e.Data))}
	w.raw(`{"type":`)
	w.text(e.Type)
	w.raw(`,"timestamp":`)
	w.time(e.Time)
	w.raw(`,"data":`)
	w.buf = append(w.buf, e.Data...)
	w.raw(`}`)
	return w.buf, w.err
}

// cloudEventBody is a CloudEvents 1.0 event in structured mode: that which was published, with all its attributes. The source
// of an event that was none names the tenant, within which ids are unique, so that source and id identify the event as the
// specification demands.
func cloudEventBody(e *event.Event) ([]byte, error) {
	const frame = 512
	if len(e.Data) == 0 && e.JSON() {
		return nil, errNoData
	}
	w := jsonWriter{buf: make([]byte, 0, frame+len(e.Data)+len(e.Data)/3)}
	c := e.Cloud
	if c == nil {
		c = &event.Cloud{Source: "/tenants/" + e.Tenant, Subject: e.ObjectID}
	}
	w.raw(`{"specversion":"1.0","id":`)
	w.text(cmp.Or(c.ID, e.ID))
	w.raw(`,"source":`)
	w.text(c.Source)
	w.raw(`,"type":`)
	w.text(e.Type)
	w.optional("subject", c.Subject)
	w.raw(`,"time":`)
	w.time(e.Time)
	w.optional("dataschema", c.DataSchema)
	for _, x := range c.Extensions {
		if x.Literal {
			w.raw(`,"` + x.Name + `":` + x.Value)
		} else {
			w.raw(`,"` + x.Name + `":`)
			w.text(x.Value)
		}
	}
	w.cloudData(e)
	w.raw(`}`)
	return w.buf, w.err
}

// cloudData appends the data and its type: other than JSON, as base64.
func (w *jsonWriter) cloudData(e *event.Event) {
	switch {
	case !e.JSON():
		w.optional("datacontenttype", e.ContentType)
		if len(e.Data) > 0 {
			w.raw(`,"data_base64":"`)
			w.buf = base64.StdEncoding.AppendEncode(w.buf, e.Data)
			w.raw(`"`)
		}
		return
	case e.Cloud == nil:
		w.raw(`,"datacontenttype":"application/json"`)
	case e.ContentType == "" && string(e.Data) == "null": // It has none.
		return
	default:
		w.optional("datacontenttype", e.ContentType)
	}
	w.raw(`,"data":`)
	w.buf = append(w.buf, e.Data...)
}

// optional appends a further member that is a string, unless it is empty.
func (w *jsonWriter) optional(name, value string) {
	if value != "" {
		w.raw(`,"` + name + `":`)
		w.text(value)
	}
}

// jsonWriter appends JSON; its first error stays.
type jsonWriter struct {
	buf []byte
	err error
}

func (w *jsonWriter) raw(s string) { w.buf = append(w.buf, s...) }

// text appends a string with its quotes.
func (w *jsonWriter) text(s string) {
	buf, err := jsontext.AppendQuote(w.buf, s)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("write text: %w", err)
	}
	w.buf = buf
}

// time appends a time in UTC, with as much of its fraction as it has.
func (w *jsonWriter) time(t time.Time) {
	w.buf = append(w.buf, '"')
	w.buf = t.UTC().AppendFormat(w.buf, time.RFC3339Nano)
	w.buf = append(w.buf, '"')
}
