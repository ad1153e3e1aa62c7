package api

import (
	"net/http"
	"strings"
)

// notFound answers for every path that no other pattern of the mux matches: 405 if it would match with another method.
func (a *adapter) notFound(w http.ResponseWriter, r *http.Request) {
	allowed := a.allowed(r)
	if len(allowed) == 0 {
		WriteError(w, r, NotFound())
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	WriteProblem(w, http.StatusMethodNotAllowed, r.Method+" is not possible here")
}

// allowed are the methods that the path knows.
func (a *adapter) allowed(r *http.Request) []string {
	var found []string
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	} {
		try := *r
		try.Method = method
		if _, pattern := a.mux.Handler(&try); pattern != "" && pattern != "/" {
			found = append(found, method)
		}
	}
	return found
}
