package ingest

import (
	"bytes"
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// The media types of publishing, beside those of JSON itself.
const (
	mediaJSON       = "application/json"
	mediaNDJSON     = "application/x-ndjson"
	mediaCloud      = "application/cloudevents+json"
	mediaCloudBatch = "application/cloudevents-batch+json"
)

// errMedia says that the Content-Type is none that is read.
var errMedia = errors.New("Content-Type must be " + mediaJSON + ", " + mediaNDJSON + ", " + mediaCloud + " or " + mediaCloudBatch)

// request holds the events read from a request, each good or with its problem.
type request struct {
	items []*item
	// single says that the one event is answered by itself.
	single bool
}

// read reads the events of a request. An error is about the request as a whole: none of it may be stored.
func read(h http.Header, body []byte, maxEvents int) (request, error) {
	media, err := mediaOf(h)
	if err != nil {
		return request{}, err
	}
	switch {
	case media == mediaCloud:
		return whole(newParser(body, 1, cloud), false)
	case media == mediaCloudBatch:
		return whole(newParser(body, maxEvents, cloud), true)
	case strings.HasPrefix(media, "application/cloudevents"):
		return request{}, errMedia
	case h.Get("Ce-Specversion") != "":
		return request{items: []*item{binary(h, body)}, single: true}, nil
	case media == mediaNDJSON:
		return lines(body, maxEvents)
	case media != mediaJSON:
		return request{}, errMedia
	}
	p := newParser(body, maxEvents, native)
	return whole(p, p.dec.PeekKind() == '[')
}

// mediaOf returns the media type of a request without its parameters; a missing one is JSON.
func mediaOf(h http.Header) (string, error) {
	given := h.Get("Content-Type")
	if given == "" || given == mediaJSON {
		return mediaJSON, nil
	}
	media, _, err := mime.ParseMediaType(given)
	if err != nil {
		return "", errMedia
	}
	return media, nil
}

// whole reads a body that is one JSON text.
func whole(p *parser, array bool) (request, error) {
	if !array {
		it, err := p.one("body")
		return request{items: []*item{it}, single: true}, err
	}
	if kind := p.dec.PeekKind(); kind != '[' && kind != jsontext.KindInvalid {
		it := &item{at: "body"}
		it.fault(event.BadData, "", "must be an array")
		return request{items: []*item{it}, single: true}, nil
	}
	items, err := p.many()
	return request{items: items}, err
}

// lines reads newline-delimited JSON: a line that is malformed is a problem of that event alone.
func lines(body []byte, maxEvents int) (request, error) {
	var items []*item
	for line := range bytes.Lines(body) {
		line = bytes.Trim(line, " \t\r\n") // the blanks that JSON knows
		if len(line) == 0 {
			continue
		}
		if len(items) == maxEvents {
			return request{}, errTooMany
		}
		at := place(len(items))
		it, err := newParser(line, 1, native).one(at)
		if err != nil {
			it = &item{at: at, problem: malformed(err, at), reason: reasonMalformed}
		}
		items = append(items, it)
	}
	return request{items: items}, nil
}

// malformed is the problem of a text that cannot be read.
func malformed(err error, at string) *api.Problem {
	if deep, ok := errors.AsType[*tooDeepError](err); ok {
		return deep.item.problem
	}
	p := problem(http.StatusBadRequest, "the body is not well-formed JSON")
	message := err.Error()
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		message = syntax.Error()
	}
	p.Errors = append(p.Errors, &api.Detail{Location: at, Message: strings.ToValidUTF8(message, "\ufffd")})
	return p
}
