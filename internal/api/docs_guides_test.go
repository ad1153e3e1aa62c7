package api_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Guides are pages without scripts, and only guides are served.
func TestGuides(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	guides := fstest.MapFS{
		"README.md":         file("# Guides\n\n[Concepts](concepts.md)\n"),
		"concepts.md":       file("# Concepts & words\n\n## A word\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<script>alert(1)</script>\n\n<!-- mark -->\n```bash\necho '<hi>'\n```\n"),
		"decisions/one.md":  file("# One\n"),
		"decisions/two.txt": file("secret"),
	}
	h := serve(t, func(a huma.API) { api.ServeGuides(a, guides) })
	for _, tc := range []struct {
		path   string
		status int
		holds  string
	}{
		{"/docs/guides/", 200, `<a href="concepts.md">Concepts</a>`},
		{"/docs/guides/README.md", 200, `<title>Guides</title>`},
		{"/docs/guides/concepts.md", 200, `<h2 id="a-word">A word</h2>`},
		{"/docs/guides/concepts.md", 200, `<td>1</td>`},
		{"/docs/guides/concepts.md", 200, `echo '&lt;hi&gt;'`},
		{"/docs/guides/concepts.md", 200, `<title>Concepts &amp; words</title>`},
		{"/docs/guides/concepts.md", 200, `<link rel="stylesheet" href="../guides.css">`},
		{"/docs/guides/decisions/one.md", 200, `<a href="../../../docs">API reference</a>`},
		{"/docs/guides.css", 200, "main {"},
		{"/docs", 200, `<a href="docs/guides/">Guides</a>`},
		{"/docs/guides/decisions/", 404, ""},
		{"/docs/guides/decisions/two.txt", 404, ""},
		{"/docs/guides/nothing.md", 404, ""},
		{"/docs/guides/docs.go", 404, ""},
	} {
		a := h.call(t, "", "GET "+tc.path, "")
		if a.status != tc.status || !strings.Contains(a.body, tc.holds) {
			t.Errorf("%s: want %d with %s, got %d %s", tc.path, tc.status, tc.holds, a.status, a.body)
		}
		if tc.status != 200 {
			continue
		}
		if strings.Contains(a.body, "alert(1)") {
			t.Errorf("%s holds the guide's own HTML", tc.path)
		}
		policy := a.header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") ||
			!strings.Contains(policy, "form-action 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s has the policy %q", tc.path, policy)
		}
		if cookie := a.header.Get("Set-Cookie"); cookie != "" {
			t.Errorf("%s sets the cookie %q", tc.path, cookie)
		}
		if again := h.call(t, "", "GET "+tc.path, "", "If-None-Match", a.header.Get("ETag")); again.status != 304 {
			t.Errorf("%s: %d for a page that is cached", tc.path, again.status)
		}
	}
}
