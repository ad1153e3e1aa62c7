package babelfor

import (
	"fmt"

	"golang.org/x/net/http/httpguts"
)

// Config is what an operator may set of Babelfor's webhooks: what its own documents call these headers was not to be
// found out.
type Config struct {
	SignatureHeader string `envconfig:"BABELFOR_SIGNATURE_HEADER" default:"X-Webhook-Signature" desc:"header of Babelfor's webhooks that holds sha256=<hex HMAC-SHA256 of the body>"`
	EventHeader     string `envconfig:"BABELFOR_EVENT_HEADER" default:"X-Webhook-Event" desc:"header of Babelfor's webhooks that holds the event type"`
	IDHeader        string `envconfig:"BABELFOR_ID_HEADER" default:"X-Webhook-Id" desc:"header of Babelfor's webhooks that holds the event's id"`
}

// DefaultConfig is that of an empty environment.
func DefaultConfig() Config {
	return Config{SignatureHeader: "X-Webhook-Signature", EventHeader: "X-Webhook-Event", IDHeader: "X-Webhook-Id"}
}

// Validate names the variable that holds no header's name.
func (c Config) Validate() error {
	for _, header := range []struct{ variable, name string }{
		{"SIGNATURE", c.SignatureHeader}, {"EVENT", c.EventHeader}, {"ID", c.IDHeader},
	} {
		if !httpguts.ValidHeaderFieldName(header.name) {
			return fmt.Errorf("FANFARE_BABELFOR_%s_HEADER: %q is no name of a header", header.variable, header.name)
		}
	}
	return nil
}
