package subscriptions

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// catalog is an OpenAPI 3.1 document of event types, to generate receivers from: each type is a webhook of the payload format
// standard.
type catalog struct {
	Version    string                                `json:"openapi" example:"3.1.0"`
	Info       catalogInfo                           `json:"info"`
	Webhooks   map[string]json.RawMessage            `json:"webhooks" doc:"By event type"`
	Components map[string]map[string]json.RawMessage `json:"components" doc:"The schemas of the types' data, and what all webhooks have in common"`

	newest time.Time
}

type catalogInfo struct {
	Title       string `json:"title" example:"Webhooks of acme"`
	Description string `json:"description"`
	Version     string `json:"version" doc:"When a type of the document was changed last" example:"2026-11-20T10:00:00Z"`
}

func newCatalog(tenant string) *catalog {
	title := "Webhooks"
	if tenant != "" {
		title += " of " + tenant
	}
	return &catalog{
		Version: "3.1.0",
		Info: catalogInfo{Title: title, Version: "0", Description: "Requests as subscriptions with the payload format `standard` receive them, signed as " +
			"Standard Webhooks. Deliveries are at least once: a repeat has the same `webhook-id`."},
		Webhooks: map[string]json.RawMessage{},
		Components: map[string]map[string]json.RawMessage{
			"schemas": {}, "parameters": catalogParameters, "responses": catalogResponses,
		},
	}
}

// catalogParameters are the headers of a signature.
var catalogParameters = map[string]json.RawMessage{
	"webhook-id": raw(signatureHeader("webhook-id", "Names the delivery's event. A repeat has the same.", "evt_17")),
	"webhook-timestamp": raw(signatureHeader("webhook-timestamp",
		"When the attempt began, in seconds since 1970. Refuse one that is more than five minutes away.", "1764410400")),
	"webhook-signature": raw(signatureHeader("webhook-signature",
		"Signatures of `webhook-id`, a dot, `webhook-timestamp`, a dot and the raw body, separated by spaces; one valid one is enough. "+
			"`v1,` and the base64 of an HMAC-SHA256 whose key is the base64 after `whsec_` of the subscription's secret, or `v1a,` and the base64 of an Ed25519 signature.",
		"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=")),
}

func signatureHeader(name, description, example string) any {
	return map[string]any{
		"name": name, "in": "header", "required": true, "description": description, "example": example, "schema": map[string]any{"type": "string"},
	}
}

// catalogResponses are the answers of a receiver that mean something of their own.
var catalogResponses = map[string]json.RawMessage{
	"Received": raw(map[string]any{"description": "The event was received."}),
	"Gone":     raw(map[string]any{"description": "The subscription is disabled."}),
	"Failed":   raw(map[string]any{"description": "Any other answer is a failure: the delivery is repeated by the subscription's schedule."}),
}

// raw encodes what can be encoded.
func raw(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func reference(kind, name string) map[string]any {
	return map[string]any{"$ref": "#/components/" + kind + "/" + name}
}

// add adds an event type, its sample only if it is asked for.
func (c *catalog) add(t *EventType, sample bool) error {
	schemas, err := componentsOf(t)
	if err != nil {
		return fmt.Errorf("read the schema of event type %s: %w", t.Name, err)
	}
	for name, schema := range schemas {
		c.Components["schemas"][name] = raw(schema)
	}
	if t.UpdatedAt.After(c.newest) {
		c.newest = t.UpdatedAt
		c.Info.Version = t.UpdatedAt.UTC().Format(time.RFC3339Nano)
	}
	media := map[string]any{"schema": map[string]any{
		"type": "object", "required": []string{"type", "timestamp", "data"},
		"properties": map[string]any{
			"type":      map[string]any{"type": "string", "enum": []string{t.Name}},
			"timestamp": map[string]any{"type": "string", "format": "date-time", "description": "When it happened"},
			"data":      reference("schemas", t.Name),
		},
	}}
	if sample && len(t.Sample) > 0 {
		media["example"] = map[string]any{"type": t.Name, "timestamp": "2026-11-20T10:00:00Z", "data": t.Sample}
	}
	post := map[string]any{
		"operationId": t.Name, "summary": t.Name, "description": describeType(t), "deprecated": t.Deprecated,
		"parameters": []any{
			reference("parameters", "webhook-id"), reference("parameters", "webhook-timestamp"), reference("parameters", "webhook-signature"),
		},
		"requestBody": map[string]any{"required": true, "content": map[string]any{"application/json": media}},
		"responses": map[string]any{
			"2XX": reference("responses", "Received"), "410": reference("responses", "Gone"), "default": reference("responses", "Failed"),
		},
		"x-schema-version": t.SchemaVersion,
	}
	c.Webhooks[t.Name] = raw(map[string]any{"post": post})
	return nil
}

// describeType is the description of a type, with what its fields say beside it.
func describeType(t *EventType) string {
	parts := []string{}
	if t.Description != "" {
		parts = append(parts, t.Description)
	}
	if t.ReplacedBy != "" {
		parts = append(parts, "Use `"+t.ReplacedBy+"` instead.")
	}
	if len(t.Scopes) > 0 {
		parts = append(parts, "To subscribe, a key needs the scopes `"+strings.Join(t.Scopes, "`, `")+"`.")
	}
	if len(t.Schema) > 0 && t.Validation != Enforce && t.Validation != "" {
		parts = append(parts, "The schema is not enforced: events may differ from it.")
	}
	return strings.Join(parts, "\n\n")
}
