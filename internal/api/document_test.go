package api_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

func TestDocument(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) { things(a); numbers(a); patches(a) })
	a := h.call(t, "", "GET /openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Security   []map[string][]string
			Scope      string `json:"x-scope"`
			Parameters []struct{ Name, In string }
			Responses  map[string]struct {
				Ref     string `json:"$ref"`
				Content map[string]any
			}
			RequestBody struct{ Content map[string]any }
		}
		Components struct {
			SecuritySchemes, Schemas map[string]any
			Responses                map[string]struct{ Content map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil || a.status != 200 {
		t.Fatalf("%d %v", a.status, err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Components.SecuritySchemes) != 2 {
		t.Errorf("openapi %s, schemes %v", doc.OpenAPI, doc.Components.SecuritySchemes)
	}
	post := doc.Paths["/v1/things"]["post"]
	if post.Scope != "things:write" || len(post.Security) != 2 || post.Security[0]["bearer"][0] != "things:write" {
		t.Errorf("scope %q, security %v", post.Scope, post.Security)
	}
	for _, status := range []string{"400", "401", "403", "408", "413", "415", "422", "429", "500", "503", "default"} {
		shared := doc.Components.Responses[strings.TrimPrefix(post.Responses[status].Ref, "#/components/responses/")]
		if _, ok := shared.Content["application/problem+json"]; !ok {
			t.Errorf("POST: no %s", status)
		}
	}
	if len(post.Parameters) != 1 || post.Parameters[0].Name != "tenant" {
		t.Errorf("parameters %v", post.Parameters)
	}
	patch := doc.Paths["/v1/things/{id}"]["patch"]
	if len(patch.RequestBody.Content) != 2 || patch.Responses["412"].Ref == "" || patch.Responses["404"].Ref == "" {
		t.Errorf("PATCH: %v, %v", patch.RequestBody, patch.Responses)
	}
	public := doc.Paths["/v1/public"]["get"]
	if len(public.Security) != 1 || len(public.Security[0]) != 0 || public.Scope != "" || len(public.Parameters) != 0 {
		t.Errorf("public: %+v", public)
	}
}

func TestDocsNeedNoInternet(t *testing.T) {
	t.Parallel()
	h := serve(t, things)
	page := h.call(t, "", "GET /docs", "")
	if page.status != 200 || !strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d %v", page.status, page.header)
	}
	for _, path := range []string{"/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"} {
		plain := h.call(t, "", "GET "+path, "", "Accept-Encoding", "identity")
		if plain.status != 200 || plain.header.Get("Content-Encoding") != "" || plain.body == "" {
			t.Errorf("%s: %d %v", path, plain.status, plain.header)
		}
		if name := strings.TrimPrefix(path, "/"); strings.Count(path, "/") == 2 && !strings.Contains(page.body, `"`+name+`"`) {
			t.Errorf("the page does not load %s", name)
		}
		zipped := h.call(t, "", "GET "+path, "", "Accept-Encoding", "gzip")
		if zipped.header.Get("Content-Encoding") == "gzip" && inflate(t, []byte(zipped.body)) != plain.body {
			t.Errorf("%s: compressed and plain differ", path)
		}
		again := h.call(t, "", "GET "+path, "", "If-None-Match", plain.header.Get("ETag"), "Accept-Encoding", "identity")
		if again.status != 304 {
			t.Errorf("%s: %d for a page that is cached", path, again.status)
		}
	}
	for _, outside := range []string{"http://", "https://", "//unpkg"} {
		if strings.Contains(page.body, outside) {
			t.Errorf("the page loads from %s", outside)
		}
	}
}

func inflate(t *testing.T, b []byte) string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestVendoredFilesAreAsPublished(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"swagger-ui-bundle.js", "swagger-ui.css"} {
		b, err := os.ReadFile("docs/" + name + ".gz")
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(inflate(t, b)))
		if !strings.Contains(string(readme), "| `"+name+"` | `"+hex.EncodeToString(sum[:])+"` |") {
			t.Errorf("%s is %x", name, sum)
		}
	}
}

func TestValidTenant(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "Acme_1-x": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "a.b": false, "a b": false, "*": false, ">": false, "é": false, "a\n": false, "a/b": false,
	} {
		if got := api.ValidTenant(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
