package passona

import (
	"github.com/fanfarehq/fanfare/deliver"
)

// Format is the webhook that Passona sends: the data as it was published, with the subscription's own
// headers and no signature.
func Format() deliver.Format {
	return deliver.Format{Name: Name, ContentType: "application/json", Body: deliver.OfJSON(body), Signer: deliver.NoSigner}
}

func body(e *deliver.Event) ([]byte, error) {
	return e.Data, nil
}
