package kajabi

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/event"
)

// Format is the webhook that Kajabi sends: {"id","event","payload":[...]}, unsigned. The id is that of the
// object that the event is about, where the publisher named one; the payload is the event's data, as a list.
func Format() webhook.Format {
	return webhook.Format{Name: Name, ContentType: "application/json", Body: webhook.OfJSON(body), Signer: webhook.NoSigner}
}

// body copies the data as it was published.
func body(e *event.Event) ([]byte, error) {
	id := e.ObjectID
	if id == "" {
		id = e.ID
	}
	out := make([]byte, 0, len(id)+len(e.Type)+len(e.Data)+40)
	out = append(out, `{"id":`...)
	out, err := jsontext.AppendQuote(out, id)
	if err != nil {
		return nil, err
	}
	out = append(out, `,"event":`...)
	out, err = jsontext.AppendQuote(out, e.Type)
	out = append(out, `,"payload":`...)
	if bytes.HasPrefix(bytes.TrimLeft(e.Data, " \t\r\n"), []byte("[")) {
		out = append(out, e.Data...)
	} else {
		out = append(out, '[')
		out = append(out, e.Data...)
		out = append(out, ']')
	}
	return append(out, '}'), err
}
