package passona

import (
	"errors"

	"github.com/fanfarehq/fanfare/deliver"
)

// Format is the webhook that Passona sends: the data as it was published, with the subscription's own
// headers and no signature.
func Format() deliver.Format {
	return deliver.Format{Name: Name, ContentType: "application/json", Body: body, Signer: deliver.NoSigner}
}

var errNoData = errors.New("the event has no data")

func body(e *deliver.Event) ([]byte, error) {
	if len(e.Data) == 0 {
		return nil, errNoData
	}
	return e.Data, nil
}
