package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// listenCmd is a receiver for trying things out.
type listenCmd struct {
	Addr    string `default:"127.0.0.1:9000" help:"Where to listen."`
	Secret  string `help:"The subscription's secret (whsec_...); with it, signatures are checked."`
	Status  int    `default:"204" help:"What to answer; try 500 or 410."`
	Headers bool   `help:"Print the headers too."`
}

// maxShown bounds what listen reads and prints of one webhook.
const maxShown = 1 << 20

// Run receives until it is stopped.
func (cmd listenCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	handler, err := cmd.handler(c.Out)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cmd.Addr)
	if err != nil {
		return fmt.Errorf("listen: %w (choose another --addr)", err)
	}
	fmt.Fprintf(c.Out, "Listening on http://%s, answering %d. Ctrl-C ends it.\n", listener.Addr(), cmd.Status)
	return api.Serve(ctx, listener, api.NewServer(handler, nil), drainTimeout)
}

// handler prints requests.
func (cmd listenCmd) handler(out io.Writer) (http.Handler, error) {
	var verifier *standardwebhooks.Webhook
	if cmd.Secret != "" {
		var err error
		if verifier, err = standardwebhooks.NewWebhook(cmd.Secret); err != nil {
			return nil, fmt.Errorf("--secret: %w", err)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxShown))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		signature, status := "not checked", cmd.Status
		if verifier != nil {
			signature = "valid"
			if err := verifier.Verify(body, r.Header); err != nil {
				signature, status = "INVALID: "+err.Error(), http.StatusUnauthorized
			}
		}
		var headers strings.Builder
		if cmd.Headers {
			_ = r.Header.Write(&headers) // A builder takes everything.
		}
		fmt.Fprintf(out, "\n%s %s  webhook-id: %s  signature: %s  -> %d\n%s%s\n",
			r.Method, r.URL.Path, r.Header.Get("Webhook-Id"), signature, status, strings.ReplaceAll(headers.String(), "\r", ""), body)
		w.WriteHeader(status)
	}), nil
}
