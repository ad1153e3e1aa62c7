package ingest

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/fanfarehq/fanfare/internal/event"
)

// cloud reads a CloudEvent in its JSON form (structured mode, or one of a batch).
func cloud(p *parser, it *item) error {
	var a event.Attributes
	var dated bool
	err := p.members(func(name []byte) error {
		switch string(name) {
		case "data":
			dated = true
			return p.data(it)
		case "data_base64":
			if dated {
				it.fault(event.BadData, "data_base64", "must not stand beside data")
			}
			return p.base64(it)
		}
		if !attributeName(name) {
			it.fault(event.BadAttribute, clip(string(name)), "unknown field: attributes of CloudEvents are a-z 0-9")
			_, err := p.value()
			return err
		}
		return p.attribute(it, &a, string(name))
	})
	it.cloudEvent(&a)
	return err
}

// attribute reads one attribute; numbers and booleans count as their text.
func (p *parser) attribute(it *item, a *event.Attributes, name string) error {
	switch p.dec.PeekKind() {
	case '"':
		var text string
		err := p.text(it, name, &text)
		a.Set(name, text)
		return err
	case '{', '[':
		it.fault(event.BadAttribute, clip(name), "must be a string, a number or a boolean")
		_, err := p.value()
		return err
	default:
		raw, err := p.value()
		if string(raw) != "null" {
			a.Set(name, string(raw))
		}
		return err
	}
}

// base64 reads data that is sent as bytes; they must be JSON none the less.
func (p *parser) base64(it *item) error {
	var text string
	if err := p.optional(it, "data_base64", &text); err != nil || text == "" {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		it.fault(event.BadData, "data_base64", "must be base64")
		return nil
	}
	it.event.Data, it.unread = data, true
	return nil
}

// binary makes a CloudEvent of a request in binary mode: attributes in ce- headers, data as the body.
func binary(h http.Header, body []byte) *item {
	it := &item{at: inHeaders, unread: true}
	var a event.Attributes
	for name, values := range h {
		if len(values) > 0 {
			a.Header(name, values[0])
		}
	}
	a.DataContentType = "" // That is the Content-Type, which was judged already.
	if len(body) > 0 {
		it.event.Data = body
	}
	it.cloudEvent(&a)
	return it
}

// cloudEvent takes the attributes over, having seen that those which CloudEvents requires are there.
func (it *item) cloudEvent(a *event.Attributes) {
	for _, required := range []struct{ name, value string }{
		{"specversion", a.SpecVersion}, {"id", a.ID}, {"source", a.Source}, {"type", a.Type},
	} {
		if required.value == "" {
			it.fault(event.BadMode, required.name, "is required")
		}
	}
	it.refuse(a.Into(&it.event))
	if it.event.Data == nil {
		it.event.Data, it.unread = []byte("null"), false // Data is optional in CloudEvents.
	}
}

// attributeName reports whether CloudEvents allows the name.
func attributeName(name []byte) bool {
	return len(name) > 0 && strings.Trim(string(name), "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}
