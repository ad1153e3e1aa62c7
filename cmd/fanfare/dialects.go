package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/retry"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// vendorAPIs makes the APIs of vendors that are served, and declares the event types that they bring with them.
func (a *assembly) vendorAPIs(ctx context.Context, sh *shared, by served) error {
	names := sh.s.dialects.Names(by.role == roleAll)
	a.vendors = vendors.New(sh.s.dialects, names, vendors.Deps{
		Deps:       dialects.Deps{Auth: by.keys.Grants(), Store: sh.store, Log: sh.log},
		Deliveries: history.NewLog(sh.db, sh.events), Ingest: by.in, Reader: sh.reader, Ledger: sh.ledger,
		Strict: sh.s.fanout.EventTypes == fanout.Strict,
	})
	return declare(ctx, names, sh.store, sh.log)
}

// declarePause is about how long a declaration waits for Postgres before it is tried again.
const declarePause = 250 * time.Millisecond

// declare makes the vendors' event types be there before anything is served: until then nothing would demand their
// scopes. A Postgres that is briefly away is waited for, as at any start.
func declare(ctx context.Context, names []string, store *subscriptions.Store, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	pauses := retry.Pauses{First: declarePause, Most: declarePause}
	err := retry.Until(ctx, pauses, func() error { return vendors.Declare(ctx, names, store) }, func(err error) bool {
		if !postgres.IsUnavailable(err) {
			return false
		}
		log.Warn("the dialects' event types wait for Postgres", "error", err)
		return true
	})
	return named("the dialects' event types", err)
}

// withVendors puts vendors before the handler of a server, which bears no slashes that their clients send.
func withVendors(server *http.Server, apis []*dialects.Vendor) *http.Server {
	if len(apis) > 0 {
		server.Handler = api.ReadOn(dialects.Mux(server.Handler, apis...))
	}
	return server
}

// posterConfig has the formats of all vendors beside Fanfare's own, whichever APIs are served.
func (s *settings) posterConfig() webhook.PosterConfig {
	cfg := webhook.DefaultPosterConfig()
	cfg.Formats = append(cfg.Formats, vendors.Formats(s.dialects)...)
	return cfg
}

// where lists vendors with the first of their paths, for the banner.
func where(apis []*dialects.Vendor) []string {
	list := make([]string, len(apis))
	for i, v := range apis {
		list[i] = fmt.Sprintf("%s %s", v.Name, v.Prefixes[0])
	}
	return list
}
