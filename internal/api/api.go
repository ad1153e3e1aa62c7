package api

import (
	"crypto/rand"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// New makes the API on mux. It serves /openapi.json and /docs, and answers every path that nobody else
// serves with a problem (404, or 405 with Allow): the pattern "/" of mux is taken.
//
// If auth also has a method UseTenant(context.Context, string) error, TenantOf calls it for each tenant that a caller
// acts for. If it has a method Watch(context.Context, Caller) (context.Context, func()), the context of every request
// comes from it, so that a request that takes long ends with its caller.
func New(mux *http.ServeMux, cfg Config, auth Authenticator) huma.API {
	hookHuma()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if len(cfg.CursorKey) == 0 {
		cfg.CursorKey = []byte(rand.Text())
	}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: cfg.Title, Version: cfg.Version, Description: cfg.Description},
		Servers: []*huma.Server{{URL: "/"}},
		Components: &huma.Components{
			Schemas:         newRegistry(),
			SecuritySchemes: securitySchemes(),
			Responses:       map[string]*huma.Response{},
		},
	}
	a := &adapter{mux: mux, cfg: cfg, auth: auth, doc: doc}
	a.tenants, _ = auth.(tenantUser)
	a.watcher, _ = auth.(callerWatcher)
	mux.Handle("GET /openapi.json", a.open(a.serveDocument()))
	a.serveDocs()
	mux.Handle("/", a.open(http.HandlerFunc(a.notFound)))
	return huma.NewAPI(huma.Config{
		OpenAPI:                      doc,
		Formats:                      formats(),
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{completeProblem},
	}, a)
}

// adapter is huma's way to the mux, with the guard in between.
type adapter struct {
	mux     *http.ServeMux
	cfg     Config
	auth    Authenticator
	tenants tenantUser
	watcher callerWatcher
	doc     *huma.OpenAPI
}

var _ huma.Adapter = (*adapter)(nil)

// Handle registers an operation. huma calls it once the operation is in the document.
func (a *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	g := a.guard(op)
	if g.maxBody > 0 {
		// huma takes a body of exactly MaxBodyBytes for too large.
		op.MaxBodyBytes = g.maxBody + 1
	}
	a.document(op)
	g.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler(newContext(op, w, r))
	})
	if op.RequestBody != nil {
		g.next = refuseEncoded(g.next)
	}
	a.serve(op, g)
}

func (a *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

func pattern(op *huma.Operation) string { return op.Method + " " + op.Path }

// Mount puts a raw handler behind the same guard as the operations of huma: authentication, the operation's scope, its
// MaxBodyBytes and BodyReadTimeout (errors of reading the body become 413 and 408 through WriteError), panics.
// The operation is added to the document as it is given. CallerFrom and TenantOf work in the handler.
func Mount(to huma.API, op huma.Operation, handler http.Handler, modifiers ...func(*huma.Operation)) {
	a, ok := to.Adapter().(*adapter)
	if !ok {
		panic("api.Mount: not an API of api.New")
	}
	for _, modify := range modifiers {
		modify(&op)
	}
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	g := a.guard(&op)
	g.next = limitBody(&op, handler)
	a.doc.AddOperation(&op)
	a.document(&op)
	a.serve(&op, g)
}
