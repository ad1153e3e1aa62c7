package api

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"net/http"
	"strings"
	"time"
)

// docsFiles is the page that shows the document: Swagger UI, see docs/README.md.
//
//go:embed docs/index.html docs/start.js docs/guides.css docs/swagger-ui-bundle.js.gz docs/swagger-ui.css.gz
var docsFiles embed.FS

// docsPolicy lets the page run its own script and read the document, and nothing else.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (a *adapter) serveDocs() {
	a.mux.Handle("GET /docs", a.open(docsFile("index.html", "text/html; charset=utf-8")))
	a.mux.Handle("GET /docs/start.js", a.open(docsFile("start.js", "text/javascript; charset=utf-8")))
	a.mux.Handle("GET /docs/swagger-ui-bundle.js", a.open(docsFile("swagger-ui-bundle.js.gz", "text/javascript; charset=utf-8")))
	a.mux.Handle("GET /docs/swagger-ui.css", a.open(docsFile("swagger-ui.css.gz", "text/css; charset=utf-8")))
}

// docsFile serves a file of the page. One that is stored compressed goes out so, unless the client cannot read it.
func docsFile(name, contentType string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := docsFiles.ReadFile("docs/" + name)
		if err != nil {
			WriteError(w, r, err)
			return
		}
		if strings.HasSuffix(name, ".gz") {
			w.Header().Set("Vary", "Accept-Encoding")
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				w.Header().Set("Content-Encoding", "gzip")
			} else if content, err = inflate(content); err != nil {
				WriteError(w, r, err)
				return
			}
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Security-Policy", docsPolicy)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", ETag(name, content))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

func inflate(content []byte) ([]byte, error) {
	zip, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zip)
}
