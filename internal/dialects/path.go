package dialects

import (
	"net/http"
	"strings"
)

// cleanPath collapses repeated slashes and drops the last one. Unchanged clients send both, and a mux would
// answer them with a redirect that turns a POST into a GET.
func cleanPath(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return path
}

// withCleanPath hands the request on under its clean path.
func withCleanPath(next http.Handler, w http.ResponseWriter, r *http.Request) {
	if clean := cleanPath(r.URL.Path); clean != r.URL.Path {
		shallow := *r
		u := *r.URL
		u.Path, u.RawPath = clean, ""
		shallow.URL = &u
		r = &shallow
	}
	next.ServeHTTP(w, r)
}
