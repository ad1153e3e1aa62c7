package leat

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/internal/event"
)

// Format is the webhook that Leat sends: {"type","data"}, signed in X-Piggy-Signature where there is a secret.
func Format() webhook.Format {
	return webhook.Format{
		Name:        Name,
		ContentType: "application/json",
		Body:        webhook.OfJSON(body),
		Signer:      dialects.Signer{Header: "X-Piggy-Signature", EventHeader: "X-Piggy-Event"}.With,
	}
}

// body copies the data as it was published.
func body(e *event.Event) ([]byte, error) {
	out := make([]byte, 0, len(e.Type)+len(e.Data)+24)
	out = append(out, `{"type":`...)
	out, err := jsontext.AppendQuote(out, e.Type)
	out = append(out, `,"data":`...)
	out = append(out, e.Data...)
	return append(out, '}'), err
}
