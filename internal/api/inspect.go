package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Inspect wraps, if it is set before an API is made, the handler of each of its operations. Only tests set it, to hold every
// answer against the document, which is complete once all operations are registered.
var Inspect func(*huma.OpenAPI, *huma.Operation, http.Handler) http.Handler

// serve puts an operation on the mux.
func (a *adapter) serve(op *huma.Operation, handler http.Handler) {
	if Inspect != nil {
		handler = Inspect(a.doc, op, handler)
	}
	a.mux.Handle(pattern(op), handler)
}
