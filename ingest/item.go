package ingest

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// item is one event of a request on its way through ingest, with its answer.
type item struct {
	event event.Event
	at    string // where it stands in the request: "body", "body[3]"
	// unread says that the data was not part of the JSON that was parsed, so that it must be judged by itself.
	unread bool
	// cloud says that it is a CloudEvent in JSON, whose attributes have no underscores.
	cloud bool

	// problem ends the item's way: it is its answer. reason is its word in the metrics.
	problem *api.Problem
	reason  string
	// unstored says that the problem is storage, which makes the whole answer 503.
	unstored  bool
	duplicate bool
	// limited is why the tenant's rate does not allow it: an *api.LimitError.
	limited error
	// first is the same event earlier in the same request, whose answer this one shares.
	first *item
}

// The words of the metrics for causes outside of the event itself.
const (
	reasonConflict  = "conflict"
	reasonUnstored  = "unstored"
	reasonMalformed = "malformed"
	reasonCrowded   = "crowded"
	reasonMediaType = "media_type"
)

// maxFaults bounds what one item's problem tells.
const maxFaults = 10

// refuse gives the item its problem, with the places of the faults made those of the request. Faults that are
// found later join it; being too large is a problem of its own.
func (it *item) refuse(r *event.Refusal) {
	if r == nil {
		return
	}
	if it.reason == "" || r.Reason == event.TooLarge {
		it.reason = string(r.Reason)
	}
	switch {
	case r.Reason == event.TooLarge:
		it.problem = problem(http.StatusRequestEntityTooLarge, "the event is too large")
	case it.problem == nil:
		it.problem = problem(http.StatusUnprocessableEntity, "the event is not valid")
	case it.problem.Status != http.StatusUnprocessableEntity:
		return
	}
	for _, f := range r.Faults {
		if len(it.problem.Errors) == maxFaults {
			return
		}
		it.problem.Errors = append(it.problem.Errors, &api.Detail{Location: it.location(f.Location), Message: f.Message})
	}
}

// fault is refuse for one thing that is wrong.
func (it *item) fault(reason event.Reason, location, message string) {
	it.refuse(&event.Refusal{Reason: reason, Faults: []event.Fault{{Location: location, Message: message}}})
}

// location is where in the request a part of the event stands.
func (it *item) location(part string) string {
	if it.cloud && !strings.HasPrefix(part, "data") {
		part = cloudNames.Replace(part)
	}
	return join(it.at, part)
}

// cloudNames are what the attributes of CloudEvents are called that stand for fields of the native form.
var cloudNames = strings.NewReplacer("object_id", "objectid", "resource_ids", "resourceids")

// inHeaders stands for the place of an event whose attributes are headers and whose data is the body.
const inHeaders = "header"

// join puts a location below another.
func join(at, location string) string {
	switch {
	case at == inHeaders && location == "data":
		return "body"
	case at == inHeaders && strings.HasPrefix(location, "data."):
		return "body" + location[len("data"):]
	case at == inHeaders:
		return "header.ce-" + strings.ReplaceAll(location, "_", "")
	case location == "" || strings.HasPrefix(location, "["):
		return at + location
	}
	return at + "." + location
}

// place is where the n-th event of an array stands.
func place(n int) string { return "body[" + strconv.Itoa(n) + "]" }

// conflict answers that the id stands for another event.
func (it *item) conflict() {
	it.reason = reasonConflict
	it.problem = problem(http.StatusConflict, "the id was used for another event within the last 24 hours")
	it.problem.Errors = append(it.problem.Errors,
		&api.Detail{Location: it.location("id"), Message: "stands for other content"})
}

func problem(status int, detail string) *api.Problem {
	return &api.Problem{Type: "about:blank", Status: status, Title: http.StatusText(status), Detail: detail}
}
