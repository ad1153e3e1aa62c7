package ingest

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// Routes adds the operations of ingest.
func (in *Ingest) Routes(to huma.API) {
	api.Mount(to, in.publishOperation(to.OpenAPI().Components.Schemas), in, api.Scope("events:write"))
	op := huma.Operation{
		OperationID: "test-subscription", Method: http.MethodPost, Path: "/v1/subscriptions/{id}/test",
		Tags: []string{"Subscriptions"}, DefaultStatus: http.StatusAccepted, Summary: "Send a test event",
		Description: "Publishes an event that goes to this subscription alone, whatever it subscribes to and also while it is " +
			"paused: a real, signed delivery, whose id is answered. By default it has the subscription's first exact event type " +
			"and that type's sample. A disabled subscription cannot be tested.",
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge,
			http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}
	api.Scope("subscriptions:write")(&op)
	huma.Register(to, op, in.test)
}

// publishOperation describes POST /v1/events, which is read by hand.
func (in *Ingest) publishOperation(schemas huma.Registry) huma.Operation {
	in.components(schemas)
	return huma.Operation{
		OperationID: "publish-events", Method: http.MethodPost, Path: "/v1/events",
		Tags: []string{"Events"}, Summary: "Publish events",
		MaxBodyBytes: in.cfg.MaxBytes, BodyReadTimeout: -1, // see upload
		Description: "Answers 202 once the events are on disk. Any other answer means that it is unknown whether they were " +
			"stored: send them again, with the same ids.\n\n" +
			"One event is one JSON object; an array, or newline-delimited JSON, is up to " + strconv.Itoa(in.cfg.MaxEvents) +
			" events and " + strconv.FormatInt(in.cfg.MaxBytes, 10) + " bytes, each judged on its own merit and answered in order: 202 if any was accepted, else 422. " +
			"CloudEvents 1.0 are taken structured, as a batch, and in binary mode (attributes in `ce-*` headers, data as the " +
			"body); `source` and `id` together identify them, and the answer's `id` is made of both. Their `subject` becomes `object_id`, and the extensions `tenant`, `resourceids`, `objectid`, `changed` and " +
			"`targets` (comma lists) say what the fields of the native form say.\n\n" +
			"An id that you give, in the event or as `Idempotency-Key`, makes publishing idempotent for 24 hours: the same " +
			"content again is answered with `duplicate: true`, other content with 409. Content is all but `time`.\n\n" +
			"Data is kept and delivered to the byte. It may have " + strconv.Itoa(in.rules.MaxData()) + " bytes and nest " +
			strconv.Itoa(event.MaxNesting) + " deep; `resource_ids`, `changed` and `targets` may have " +
			strconv.Itoa(event.MaxAttributes) + " entries each, of up to " + strconv.Itoa(event.MaxAttribute) +
			" bytes without commas and control characters.",
		Parameters: []*huma.Param{{
			Name: "Idempotency-Key", In: "header", Description: "The event's id, for a request of one event",
			Schema: idSchema(), Example: "evt_17",
		}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			mediaJSON:       {Schema: component("PublishRequest"), Example: exampleEvent()},
			mediaNDJSON:     {Schema: &huma.Schema{Type: huma.TypeString}, Example: exampleLines},
			mediaCloud:      {Schema: component("CloudEvent"), Example: exampleCloud()},
			mediaCloudBatch: {Schema: component("CloudEventBatch"), Example: []any{exampleCloud()}},
		}},
		Responses: map[string]*huma.Response{
			"202": {
				Description: "The events are on disk",
				Content: map[string]*huma.MediaType{mediaJSON: {
					Schema:  component("PublishResult"),
					Example: map[string]any{"id": "evt_17", "duplicate": false},
				}},
			},
			"422": {
				Description: "The event is not valid, or none of an array was accepted: then `accepted` is 0, and `events` say why",
				Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: component("PublishProblem")}},
			},
			"429": {
				Headers:     waitHeaders(),
				Description: "The tenant published more than it may: nothing was stored. Of an array, `events` say so of each.",
				Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: component("PublishProblem")}},
			},
			"409": {
				Description: "The id was used for other content within the last 24 hours",
				Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: component("PublishProblem")}},
			},
			"503": {
				Headers: waitHeaders(),
				Description: "Storage is away or full, or too many requests wait: send the events again after `Retry-After`. " +
					"Of an array, `accepted` and `events` say what became of each.",
				Content: map[string]*huma.MediaType{"application/problem+json": {Schema: component("PublishProblem")}},
			},
		},
	}
}
