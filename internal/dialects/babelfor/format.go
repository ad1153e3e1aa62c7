package babelfor

import (
	"errors"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/dialects"
)

// Format is the webhook that Babelfor sends: the data as it was published, signed where there is a secret.
func Format(cfg Config) deliver.Format {
	return deliver.Format{
		Name:        Name,
		ContentType: "application/json",
		Body:        body,
		Signer: dialects.Signer{
			Header: cfg.SignatureHeader, Prefix: "sha256=", EventHeader: cfg.EventHeader, IDHeader: cfg.IDHeader,
		}.With,
	}
}

var errNoData = errors.New("the event has no data")

func body(e *deliver.Event) ([]byte, error) {
	if len(e.Data) == 0 {
		return nil, errNoData
	}
	return e.Data, nil
}
