package api

import (
	"encoding/json"
	"net/http"
	"sync"
)

// serveDocument answers with the OpenAPI document. It is written once, at the first request: all routes are there then.
func (a *adapter) serveDocument() http.Handler {
	document := sync.OnceValues(func() ([]byte, error) { return json.Marshal(a.doc) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := document()
		if err != nil {
			WriteError(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(body) // who hung up misses nothing
	})
}
