package main

import (
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/docs"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/terminal"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// openapiCmd prints what GET /openapi.json answers.
type openapiCmd struct{}

// Run needs no server: it registers the routes on parts that are connected to nothing.
func (openapiCmd) Run(c *terminal.Terminal) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	text, err := describeAPI(s)
	if err != nil {
		return err
	}
	_, err = c.Out.Write(text)
	return err
}

// describeAPI returns the OpenAPI document of the API under these settings.
func describeAPI(s *settings) ([]byte, error) {
	db, err := sql.Open("postgres", "") // Connects at its first use, which does not come.
	if err != nil {
		return nil, err
	}
	defer db.Close()
	log := slog.New(slog.DiscardHandler)
	sh := &shared{s: s, ground: ground{backing: &backing{db: db}, log: log, metrics: prometheus.NewRegistry()}}
	sh.store = subscriptions.New(db, nil, egress.Policy{})
	sh.rules = fanout.NewRules(s.fanout, nil, event.Marks{})
	sh.ledger = fanout.NewLedger(db)
	if sh.events, err = deliver.NewEvents(deliver.EventsConfig{}, db); err != nil {
		return nil, err
	}
	in, err := ingest.New(s.ingest, ingest.Deps{DB: db, Rules: sh.rules, Logger: log, Metrics: sh.metrics})
	if err != nil {
		return nil, err
	}
	keys, err := access.New(access.Config{}, access.Deps{DB: db, Peppers: []access.Pepper{{ID: "document", Key: make([]byte, 32)}}})
	if err != nil {
		return nil, err
	}
	a := &assembly{log: log, ground: sh.ground, mux: http.NewServeMux()}
	routes := api.New(a.mux, apiConfig(sh.own, log), keys)
	a.mount(sh, served{roleAPI, keys, in}, routes)
	text, err := api.Document(routes.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("write the document: %w", err)
	}
	return text, nil
}

// served are the parts that answer requests themselves.
type served struct {
	role role
	keys *access.Access
	in   *ingest.Ingest
}

// Costly reads of a process take half of its cores and a quarter of its connections at most, and wait so long for a place.
const (
	heavyMost = 4
	heavyWait = 10 * time.Second
)

// mount adds the routes of a role to the API.
func (a *assembly) mount(sh *shared, by served, to huma.API) {
	api.ServeGuides(to, docs.Guides)
	by.in.Routes(to)
	if !by.role.is(roleAPI) {
		return
	}
	by.keys.Routes(to)
	subscriptions.Routes(to, sh.store, fanout.NewRecent(sh.ledger, sh.reader, sh.events))
	heavy := fair.NewRoom(max(1, min(heavyMost, runtime.GOMAXPROCS(0)/2, sh.s.server.PostgresMaxConns/4)), heavyWait)
	fanout.Routes{
		Ledger: sh.ledger, Reader: sh.reader, Bytes: sh.events, Deliveries: history.NewCounts(sh.deliveries(heavy)), Directory: sh.directory,
		Changes: changes.NewLog(sh.db), Quotas: sh.quotas, Heavy: heavy,
	}.Register(to)
	history.Routes(to, sh.deliveries(heavy))
	changes.Routes(to, changes.NewLog(sh.db), heavy)
	a.overview(sh, to, heavy)
	a.operations(sh, by.keys, to)
}

// deliveries are what deliveries are shown with.
func (sh *shared) deliveries(heavy *fair.Room) history.RoutesDeps {
	return history.RoutesDeps{
		DB: sh.db, Events: sh.events, Heavy: heavy, Past: subscriptions.Past{Changes: changes.NewLog(sh.db), Directory: sh.directory},
		Requests: webhook.NewRequests(sh.s.posterConfig().Formats), Types: sh.directory,
	}
}
