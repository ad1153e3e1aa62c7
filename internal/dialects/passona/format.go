package passona

import (
	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/webhook"
)

// Format is the webhook that Passona sends: the data as it was published, with the subscription's own
// headers and no signature.
func Format() webhook.Format {
	return webhook.Format{Name: Name, ContentType: "application/json", Body: webhook.OfJSON(body), Signer: webhook.NoSigner}
}

func body(e *deliver.Event) ([]byte, error) {
	return e.Data, nil
}
