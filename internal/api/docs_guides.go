package api

import (
	"bytes"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
)

// guideMarkdown renders guides: tables, and headings with the ids that GitHub gives them. Raw HTML is left out.
var guideMarkdown = goldmark.New(
	goldmark.WithExtensions(extension.Table),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
)

// guidePage is the page around a guide. Its addresses are relative, so that it also works behind a proxy that adds a path.
var guidePage = template.Must(template.New("guide").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<link rel="stylesheet" href="{{.Up}}guides.css">
</head>
<body>
<nav><a href="{{.Up}}guides/">Guides</a> <a href="{{.Up}}../docs">API reference</a></nav>
<main>
{{.Body}}</main>
</body>
</html>
`))

// ServeGuides serves Markdown files as pages at /docs/guides/, beside the reference at /docs and without a key. A page
// keeps its file's name, so that links between files work; a folder shows its README.md.
func ServeGuides(to huma.API, guides fs.FS) {
	a, ok := to.Adapter().(*adapter)
	if !ok {
		panic("api.ServeGuides: not an API of api.New")
	}
	a.mux.Handle("GET /docs/guides.css", a.open(docsFile("guides.css", "text/css; charset=utf-8")))
	a.mux.Handle("GET /docs/guides/{name...}", a.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, err := renderGuide(guides, r.PathValue("name"))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
			WriteError(w, r, NotFound())
		case err != nil:
			WriteError(w, r, err)
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", docsPolicy)
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("ETag", ETag("guide", page))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(page))
		}
	})))
}

// renderGuide reads a guide and makes its page. The error is fs.ErrNotExist or fs.ErrInvalid for a name that is not a guide's.
func renderGuide(guides fs.FS, name string) ([]byte, error) {
	if name == "" || strings.HasSuffix(name, "/") {
		name += "README.md"
	}
	if path.Ext(name) != ".md" {
		return nil, fs.ErrNotExist
	}
	source, err := fs.ReadFile(guides, name)
	if err != nil {
		return nil, err
	}
	var body, page bytes.Buffer
	if err := guideMarkdown.Convert(source, &body); err != nil {
		return nil, err
	}
	title, _, _ := strings.Cut(strings.TrimPrefix(string(source), "# "), "\n")
	err = guidePage.Execute(&page, struct {
		Title, Up string
		Body      template.HTML
	}{title, strings.Repeat("../", 1+strings.Count(name, "/")), template.HTML(body.String())})
	return page.Bytes(), err
}
