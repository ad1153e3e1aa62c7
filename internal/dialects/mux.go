package dialects

import "net/http"

// Mux sends a vendor's paths to that vendor and all others on. No two vendors own the same path. It stands before
// whatever judges or redirects paths: a vendor's clients send slashes that no mux would bear.
func Mux(next http.Handler, vendors ...*Vendor) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		clean := cleanPath(r.URL.Path)
		for _, v := range vendors {
			if v.owns(clean) {
				withCleanPath(v, w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
