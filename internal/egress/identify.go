package egress

import (
	"crypto/tls"
	"errors"
	"net/http"
)

// keptSessionsEach is keptSessions of a client that presents a certificate: its receivers are few.
const keptSessionsEach = 64

// Identify returns a client like the given one, which NewClient made, that presents a certificate to receivers that ask
// for one. It shares neither connections nor TLS sessions with any other client, so nothing that is sent by
// another can be taken for the certificate's owner. To present it to nobody any more, close its idle connections.
func Identify(client *http.Client, certificate tls.Certificate) (*http.Client, error) {
	t, ok := transportOf(client)
	if !ok {
		return nil, errors.New("identify client: nothing guards it")
	}
	cfg, o := t.cfg, t.options
	o.certificate = &certificate
	// There may be many of these clients, each with a few receivers.
	cfg.MaxIdleConns = min(cfg.MaxIdleConns, cfg.MaxIdleConnsPerHost)
	return newClient(t.policy, cfg, o), nil
}
