package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fanfarehq/fanfare/internal/client"
)

// The CA and the client certificate of NATS are for NATS alone: a webhook to an endpoint with a certificate of the same CA is
// refused.
func TestPrivateCAOfNATS(t *testing.T) {
	t.Parallel()
	private := newAuthority(t)
	broker := natsServer(t, &server.Options{
		JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, TLSVerify: true, TLSTimeout: 60,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{private.leaf}, ClientCAs: private.pool,
			ClientAuth: tls.RequireAndVerifyClientCert,
		},
	})
	url := "tls://" + broker.Addr().String()
	trusting := []string{"FANFARE_NATS_URL=" + url, "FANFARE_NATS_CA=" + private.ca}
	full := append(trusting, "FANFARE_NATS_CLIENT_CERT="+private.cert, "FANFARE_NATS_CLIENT_KEY="+private.key)
	fails(t, exitError, []string{"FANFARE_NATS_URL=" + url}, []string{"all"}, "FANFARE_NATS_URL", "unknown authority")
	fails(t, exitError, trusting, []string{"all"}, "FANFARE_NATS_URL", "certificate required")

	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a webhook was sent to an endpoint whose CA only NATS is checked by")
	}))
	receiver.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{private.leaf}}
	receiver.StartTLS()
	t.Cleanup(receiver.Close)
	dir := dataDir(t)
	_, at := startAll(t, dir, full...)
	admin := adminClient(t, at, dir)
	subscribe(t, admin, "private", receiver.URL, "*")
	call(t, admin, "POST /v1/events?tenant=acme", map[string]any{"type": "order.created", "data": map[string]any{}}, nil)
	await(t, "the delivery fails by TLS", func() bool {
		found := false
		err := client.All(t.Context(), admin, "/v1/deliveries?tenant=acme", func(d map[string]any) { found = d["reason"] == "tls" })
		return err == nil && found
	})
}
