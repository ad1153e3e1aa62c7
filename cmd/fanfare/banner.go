package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/fanfarehq/fanfare/internal/running"
)

// banner says where everything is and what to try first. The admin key is shown when it was made, and never again.
type banner struct {
	at       running.Process
	dataDir  string
	adminKey string   // only if it is fresh
	embedded bool     // NATS is this process's own
	private  bool     // and Postgres
	dialects []string // vendors whose APIs are served, each with its first path
}

func (b banner) print(w io.Writer) {
	dir, err := filepath.Abs(b.dataDir)
	if err != nil {
		dir = b.dataDir
	}
	whose := func(own bool) string {
		if own {
			return "its own"
		}
		return "yours"
	}
	natsURL := maskURL(b.at.NATS)
	if b.embedded {
		natsURL = withoutUser(b.at.NATS)
	}
	if natsURL == "" {
		natsURL = "listens nowhere (FANFARE_NATS_LISTEN)"
	}
	key := "$(cat " + filepath.Join(dir, adminKeyFile) + ")"
	if _, err := os.Stat(filepath.Join(dir, adminKeyFile)); err != nil {
		key = "$FANFARE_ADMIN_KEY"
	}
	fmt.Fprintf(w, `
Fanfare is ready.

  API         %s   (reference: %s/docs)
  operations  %s   (/healthz /readyz /metrics)
  NATS        %s   (%s)
  Postgres    %s   (%s)
  data        %s
`, b.at.API, b.at.API, b.at.Ops, natsURL, whose(b.embedded), maskURL(b.at.Postgres), whose(b.private), dir)
	if len(b.dialects) > 0 {
		fmt.Fprintf(w, "  dialects    %s   (%s)\n", b.at.API, strings.Join(b.dialects, ", "))
	}
	if b.adminKey != "" {
		fmt.Fprintf(w, "  admin key   %s   (shown this once; kept in %s)\n", b.adminKey, filepath.Join(dir, adminKeyFile))
	}
	fmt.Fprintf(w, `
Publish a first event:

  curl -sS -H "Authorization: Bearer %s" -H 'Content-Type: application/json' \
    '%s/v1/events?tenant=acme' -d '{"type":"order.created","data":{"order":"o_17","total":12.5}}'

Ctrl-C stops it; the next start finds the data again.

`, key, b.at.API)
}

// withoutUser takes the credentials out of a URL of the embedded NATS, which publishers of this machine do not need.
func withoutUser(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return maskURL(raw)
	}
	u.User = nil
	return u.String()
}
