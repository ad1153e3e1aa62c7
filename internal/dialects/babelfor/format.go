package babelfor

import (
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/dialects"
	published "github.com/fanfarehq/fanfare/internal/event"
)

// Format is the webhook that Babelfor sends: the data as it was published, signed where there is a secret.
func Format(cfg Config) webhook.Format {
	return webhook.Format{
		Name:        Name,
		ContentType: "application/json",
		Body:        webhook.OfJSON(body),
		Signer: dialects.Signer{
			Header: cfg.SignatureHeader, Prefix: "sha256=", EventHeader: cfg.EventHeader, IDHeader: cfg.IDHeader,
		}.With,
	}
}

func body(e *published.Event) ([]byte, error) {
	return e.Data, nil
}
