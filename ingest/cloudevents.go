package ingest

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/fanfarehq/fanfare/internal/event"
)

// cloud reads a CloudEvent in its JSON form (structured mode, or one of a batch). Its members may stand in any order, so its
// data is judged when all of them are read.
func cloud(p *parser, it *item) error {
	it.cloud = true
	var a event.Attributes
	var d cloudData
	err := p.members(func(name []byte) error {
		switch string(name) {
		case "data":
			d.plain = true
			return p.data(it)
		case "data_base64":
			d.encoded = true
			return p.optional(it, "data_base64", &d.base64)
		}
		if !attributeName(name) {
			it.fault(event.BadAttribute, clip(string(name)), "unknown field: attributes of CloudEvents are a-z 0-9")
			_, err := p.value()
			return err
		}
		return p.attribute(it, &a, string(name))
	})
	if err != nil {
		return err
	}
	it.cloudEvent(&a)
	it.cloudData(d)
	return nil
}

// attribute reads one attribute. Numbers and booleans of extensions stay what they are, of others they count as their text.
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
			a.Literals += "," + name
		}
		return err
	}
}

// cloudData is how a CloudEvent in JSON says its data.
type cloudData struct {
	plain, encoded bool // has a member data, data_base64
	base64         string
}

// cloudData makes the event's data of the bytes read.
func (it *item) cloudData(d cloudData) {
	e := &it.event
	switch {
	case d.plain && d.encoded:
		it.fault(event.BadData, "data_base64", "must not stand beside data")
	case d.encoded:
		data, err := base64.StdEncoding.DecodeString(d.base64)
		if err != nil {
			it.fault(event.BadData, "data_base64", "must be base64")
			return
		}
		e.Data, it.unread = data, true
	case !e.JSON() && len(e.Data) > 0 && string(e.Data) != "null":
		if e.Data[0] != '"' {
			it.fault(event.BadData, "data", "must be a string, as datacontenttype is not JSON")
			return
		}
		text, err := unquote(e.Data)
		if err != nil {
			it.fault(event.BadData, "data", "must be a string")
		}
		e.Data = text
		return
	case !e.JSON():
		e.Data = nil
	}
	it.dataless()
}

// dataless gives an event without data what stands for none: data is optional in CloudEvents.
func (it *item) dataless() {
	if len(it.event.Data) == 0 && it.event.JSON() {
		it.event.Data, it.unread = []byte("null"), false
	}
}

// binary makes a CloudEvent of a request in binary mode: attributes in ce- headers, data as the body.
func binary(h http.Header, body []byte) *item {
	it := &item{at: inHeaders, unread: true}
	var a event.Attributes
	for name, value := range event.Lines(h) {
		a.Header(name, value)
	}
	a.DataContentType = h.Get("Content-Type")
	if len(body) > 0 {
		it.event.Data = body
	}
	it.cloudEvent(&a)
	it.dataless()
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
}

// attributeName reports whether CloudEvents allows the name.
func attributeName(name []byte) bool {
	return len(name) > 0 && strings.Trim(string(name), "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}
