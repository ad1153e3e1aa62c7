package ingest

import (
	"maps"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// The schemas of publishing, for the document. What is read by hand is described by hand.

func idSchema() *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]+$", MinLength: new(1), MaxLength: new(event.MaxID),
		Description: "Unique within the tenant for 24 hours; made if you give none"}
}

func attributesSchema(description, example string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Description: description, MaxItems: new(event.MaxAttributes), Nullable: true,
		Items: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(event.MaxAttribute), Examples: []any{example}}}
}

// eventSchema is that of an event in Fanfare's own form.
func (in *Ingest) eventSchema() *huma.Schema {
	targets := attributesSchema("Send to these subscriptions only, whatever they subscribe to", "0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69")
	targets.Items.Format, targets.Items.MaxLength, targets.Items.MinLength = "uuid", nil, nil
	return &huma.Schema{
		Type: huma.TypeObject, Description: "An event", Required: []string{"type", "data"}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{
			"type": {Type: huma.TypeString, Pattern: `^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$`, MinLength: new(1),
				MaxLength: new(event.MaxType), Examples: []any{"order.created"}},
			"data": {Description: "Any JSON, at most " + strconv.Itoa(in.rules.MaxData()) + " bytes"},
			"id":   idSchema(),
			"time": {Type: huma.TypeString, Format: "date-time", Description: "When it happened; by default, now"},
			"tenant": {Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]+$", MinLength: new(1), MaxLength: new(event.MaxTenant),
				Description: "For keys over all tenants"},
			"resource_ids": attributesSchema("What `resource_id` of a subscription matches", "123"),
			"object_id": {Type: huma.TypeString, MinLength: new(1), MaxLength: new(event.MaxAttribute),
				Description: "The object that the event is about"},
			"changed": attributesSchema("The attributes that changed", "status"),
			"targets": targets,
		},
	}
}

// cloudSchema is that of a CloudEvent in its JSON form.
func cloudSchema() *huma.Schema {
	text := func(description string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, MinLength: new(1), Description: description}
	}
	return &huma.Schema{
		Type: huma.TypeObject, Description: "A CloudEvent 1.0; all its attributes are kept and sent on by the payload format cloudevents",
		Required: []string{"specversion", "id", "source", "type"},
		Properties: map[string]*huma.Schema{
			"specversion": {Type: huma.TypeString, Enum: []any{"1.0"}},
			"id": {Type: huma.TypeString, MinLength: new(1), MaxLength: new(event.MaxCloudID),
				Description: "Unique within the source for 24 hours"},
			"source":          text("With the id, what identifies the event"),
			"type":            text("The event type"),
			"time":            {Type: huma.TypeString, Format: "date-time"},
			"subject":         text("Becomes `object_id`"),
			"datacontenttype": text("Of data; JSON if there is none"),
			"data":            {Description: "Any JSON; a string where datacontenttype is not JSON"},
			"data_base64":     text("Data of any kind as base64, instead of `data`"),
			"tenant":          text("For keys over all tenants"),
			"resourceids":     text("Comma list"),
			"objectid":        text("Stands before `subject`"),
			"changed":         text("Comma list"),
			"targets":         text("Comma list"),
			"dataschema":      text("A URI"),
			"traceparent":     text("Handed on to the receivers"),
		},
		AdditionalProperties: true,
	}
}

// component refers to one of the schemas that components adds.
func component(name string) *huma.Schema { return &huma.Schema{Ref: "#/components/schemas/" + name} }

// components adds the schemas of publishing to the document by their names, so that generated clients have a type for each.
func (in *Ingest) components(to huma.Registry) {
	many := func(of string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeArray, Items: component(of), MaxItems: &in.cfg.MaxEvents}
	}
	either := func(description string, of ...string) *huma.Schema {
		s := &huma.Schema{Description: description}
		for _, name := range of {
			s.OneOf = append(s.OneOf, component(name))
		}
		return s
	}
	all := to.Map()
	all["NewEvent"], all["NewEventBatch"] = in.eventSchema(), many("NewEvent")
	all["PublishRequest"] = either("One event, or several", "NewEvent", "NewEventBatch")
	all["CloudEvent"], all["CloudEventBatch"] = cloudSchema(), many("CloudEvent")
	all["PublishedEvent"] = publishedSchema()
	all["RefusedEvent"] = &huma.Schema{
		Type: huma.TypeObject, Required: []string{"error"}, Properties: map[string]*huma.Schema{"error": api.ProblemSchema(to)},
	}
	all["EventResult"] = either("What became of one event", "PublishedEvent", "RefusedEvent")
	accepted := &huma.Schema{Type: huma.TypeInteger, Description: "How many are on disk, duplicates included"}
	events := &huma.Schema{Type: huma.TypeArray, Description: "What became of each, in order", Items: component("EventResult")}
	all["PublishedBatch"] = &huma.Schema{
		Type: huma.TypeObject, Required: []string{"accepted", "events"},
		Properties: map[string]*huma.Schema{"accepted": accepted, "events": events},
	}
	all["PublishResult"] = either("As the request: of one event, or of several", "PublishedEvent", "PublishedBatch")
	problem := *to.SchemaFromRef(api.ProblemSchema(to).Ref)
	problem.Properties = maps.Clone(problem.Properties)
	problem.Description = "A problem; of a batch with what became of each event"
	problem.Properties["accepted"], problem.Properties["events"] = accepted, events
	all["PublishProblem"] = &problem
}

// publishedSchema is that of the answer for one event.
func publishedSchema() *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"id", "duplicate"},
		Properties: map[string]*huma.Schema{
			"id":        idSchema(),
			"duplicate": {Type: huma.TypeBoolean, Description: "The event had been accepted before"},
		},
	}
}

// waitHeaders are those of an answer that asks the caller to come back.
func waitHeaders() map[string]*huma.Header {
	return map[string]*huma.Header{"Retry-After": {
		Description: "How many seconds to wait before the next request.", Schema: &huma.Schema{Type: huma.TypeString},
	}}
}

func exampleEvent() map[string]any {
	return map[string]any{
		"type": "order.created", "data": map[string]any{"order": "o_17", "total": 12.5}, "id": "evt_17",
		"time": time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC), "resource_ids": []string{"123"}, "changed": []string{"status"},
	}
}

func exampleCloud() map[string]any {
	return map[string]any{
		"specversion": "1.0", "id": "evt_17", "source": "/shop", "type": "order.created",
		"datacontenttype": mediaJSON, "data": map[string]any{"order": "o_17", "total": 12.5},
	}
}

const exampleLines = `{"type":"order.created","data":{"order":"o_17"}}` + "\n" + `{"type":"order.paid","data":{"order":"o_17"}}`
