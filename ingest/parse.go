package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fanfarehq/fanfare/internal/event"
)

// errTooMany says that a request holds more events than one may.
var errTooMany = errors.New("too many events")

// parser reads events from a JSON text. It is strict (no duplicate names, no invalid UTF-8, nothing after the
// text) and copies no data: an event's data is a piece of the request's body, to the byte.
type parser struct {
	body      []byte
	dec       *jsontext.Decoder
	maxEvents int
	// object reads one event, from after its opening brace to its closing one.
	object func(*parser, *item) error
}

func newParser(body []byte, maxEvents int, object func(*parser, *item) error) *parser {
	return &parser{body: body, dec: jsontext.NewDecoder(bytes.NewBuffer(body)), maxEvents: maxEvents, object: object}
}

// value reads the next value, or name, and returns it as it stands in the body.
func (p *parser) value() ([]byte, error) {
	raw, err := p.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(p.dec.InputOffset())
	return p.body[end-len(raw) : end : end], nil
}

// one reads a text that is one event.
func (p *parser) one(at string) (*item, error) {
	it := &item{at: at}
	if err := p.event(it); err != nil {
		return nil, err
	}
	return it, p.end()
}

// many reads a text that is an array of events.
func (p *parser) many() ([]*item, error) {
	if _, err := p.dec.ReadToken(); err != nil {
		return nil, err
	}
	var items []*item
	for {
		switch p.dec.PeekKind() {
		case ']', jsontext.KindInvalid:
			if _, err := p.dec.ReadToken(); err != nil {
				return nil, err
			}
			return items, p.end()
		}
		if len(items) == p.maxEvents {
			return nil, errTooMany
		}
		it := &item{at: place(len(items))}
		if err := p.event(it); err != nil {
			return nil, err
		}
		items = append(items, it)
	}
}

// end makes sure that nothing follows.
func (p *parser) end() error {
	_, err := p.dec.ReadToken()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("more than one JSON text at offset %d", p.dec.InputOffset())
}

// event reads one value that should be an event.
func (p *parser) event(it *item) error {
	if p.dec.PeekKind() != '{' {
		it.fault(event.BadData, "", "must be an object")
		_, err := p.value()
		return err
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	if err := p.object(p, it); err != nil {
		return err
	}
	_, err := p.dec.ReadToken()
	return err
}

// members reads the members of an object, whose value take reads.
func (p *parser) members(take func(name []byte) error) error {
	for p.dec.PeekKind() == '"' {
		quoted, err := p.value()
		if err != nil {
			return err
		}
		name, err := unquote(quoted)
		if err != nil {
			return err
		}
		if err := take(name); err != nil {
			return err
		}
	}
	// Anything but the closing brace is an error, which the next read of the caller finds.
	return nil
}

// native reads an event of Fanfare's own form.
func native(p *parser, it *item) error {
	e := &it.event
	var typed, dated bool
	err := p.members(func(name []byte) error {
		switch string(name) {
		case "type":
			typed = true
			return p.text(it, "type", &e.Type)
		case "data":
			dated = true
			return p.data(it)
		case "id":
			return p.optional(it, "id", &e.ID)
		case "time":
			return p.time(it)
		case "tenant":
			return p.optional(it, "tenant", &e.Tenant)
		case "resource_ids":
			return p.list(it, "resource_ids", &e.ResourceIDs)
		case "object_id":
			return p.optional(it, "object_id", &e.ObjectID)
		case "changed":
			return p.list(it, "changed", &e.Changed)
		case "targets":
			return p.targets(it)
		}
		it.fault(event.BadAttribute, clip(string(name)), "unknown field")
		_, err := p.value()
		return err
	})
	if !typed {
		it.fault(event.BadType, "type", "is required")
	}
	if !dated {
		it.fault(event.BadData, "data", "is required")
	}
	return err
}

// data reads the event's data, having looked how deep it is before the parser goes into it.
func (p *parser) data(it *item) error {
	rest := p.body[p.dec.InputOffset():]
	deep := event.Nesting(bytes.TrimLeft(rest, ": \t\r\n")) > event.MaxNesting
	if deep {
		it.fault(event.TooDeep, "data", "must not nest deeper than "+strconv.Itoa(event.MaxNesting))
	}
	raw, err := p.value()
	if err != nil && deep {
		return &tooDeepError{it}
	}
	it.event.Data = raw
	return err
}

// tooDeepError ends the reading of a text that nests deeper than the parser goes; item has the problem.
type tooDeepError struct{ item *item }

func (e *tooDeepError) Error() string { return e.item.problem.Error() }

// text reads a string that must be there.
func (p *parser) text(it *item, location string, to *string) error {
	kind := p.dec.PeekKind()
	raw, err := p.value()
	if err != nil {
		return err
	}
	if kind != '"' {
		it.fault(event.BadAttribute, location, "must be a string")
		return nil
	}
	plain, err := unquote(raw)
	if err == nil && len(plain) == 0 {
		it.fault(event.BadAttribute, location, "must not be empty")
	}
	*to = string(plain)
	return err
}

// optional reads a string that null leaves out.
func (p *parser) optional(it *item, location string, to *string) error {
	if p.dec.PeekKind() == 'n' {
		_, err := p.value()
		return err
	}
	return p.text(it, location, to)
}

func (p *parser) time(it *item) error {
	var text string
	if err := p.optional(it, "time", &text); err != nil || text == "" {
		return err
	}
	t, r := event.ParseTime(text)
	it.event.Time = t
	it.refuse(r)
	return nil
}

func (p *parser) targets(it *item) error {
	var texts []string
	if err := p.list(it, "targets", &texts); err != nil {
		return err
	}
	ids, r := event.ParseTargets(texts)
	if len(ids) > 0 {
		it.event.Targets = ids
	}
	it.refuse(r)
	return nil
}

// list reads an array of strings, of which it keeps as many as are allowed and one more.
func (p *parser) list(it *item, location string, to *[]string) error {
	if p.dec.PeekKind() != '[' {
		raw, err := p.value()
		if err == nil && string(raw) != "null" {
			it.fault(event.BadAttribute, location, "must be an array of strings")
		}
		return err
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for n := 0; ; n++ {
		switch p.dec.PeekKind() {
		case ']', jsontext.KindInvalid:
			_, err := p.dec.ReadToken()
			return err
		}
		var text string
		if err := p.text(it, location+"["+strconv.Itoa(n)+"]", &text); err != nil {
			return err
		}
		if n <= event.MaxAttributes {
			*to = append(*to, text)
		}
	}
}

// unquote returns a JSON string's text; without escapes it is a piece of the string itself.
func unquote(quoted []byte) ([]byte, error) {
	if inner := quoted[1 : len(quoted)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return inner, nil
	}
	return jsontext.AppendUnquote(nil, quoted)
}

// clip bounds a name that a caller made up before it is told back.
func clip(name string) string {
	if len(name) > 64 {
		return strings.ToValidUTF8(name[:64], "")
	}
	return name
}
