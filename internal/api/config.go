package api

import (
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"
)

// Config describes the API.
type Config struct {
	Title, Version, Description string
	// CursorKey signs the cursors of lists. Every process must have the same one; without one, cursors are understood
	// only by the process that made them.
	CursorKey []byte
	// Tags describe the tags of operations in the document, by name.
	Tags map[string]string
	// Logger receives what a caller is not told: panics and the reasons of 500 and 503. Nil discards them.
	Logger *slog.Logger
	// Unavailable says of an error that a dependency is away, beside errors that say it of themselves.
	Unavailable func(error) bool
}

const (
	// defaultMaxBody bounds the body of an operation that sets no MaxBodyBytes: it holds settings and no event data.
	defaultMaxBody = 64 << 10
	// humaMaxBody is what huma sets where an operation sets none.
	humaMaxBody = 1 << 20
	// defaultBodyTimeout bounds the reading of a body where the operation sets no BodyReadTimeout.
	defaultBodyTimeout = 15 * time.Second
)

// NewServer makes a server with the limits that a public one needs: slow and oversized headers and
// idle connections are bounded. Bodies are bounded by each operation, and answers may stream for as long as they like.
// A path that is not in its shortest form, such as /v1/keys/../x, is 404: a http.ServeMux would redirect it.
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:           ReadOn(shortestPaths(handler)),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	if logger != nil {
		s.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	}
	return s
}

func shortestPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !shortest(r.URL.Path) {
			secure(w.Header())
			WriteProblem(w, http.StatusNotFound, notFoundDetail)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// shortest says whether a mux would serve the path as it is.
func shortest(p string) bool {
	if p == "*" { // OPTIONS *
		return true
	}
	clean := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean == p
}
