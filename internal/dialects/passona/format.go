package passona

import (
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/event"
)

// Format is the webhook that Passona sends: the data as it was published, with the subscription's own
// headers and no signature.
func Format() webhook.Format {
	return webhook.Format{Name: Name, ContentType: "application/json", Body: webhook.OfJSON(body), Signer: webhook.NoSigner}
}

func body(e *event.Event) ([]byte, error) {
	return e.Data, nil
}
