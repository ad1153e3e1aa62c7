package api

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"
)

// serveDocument answers with the OpenAPI document. It is written once, at the first request: all routes are there then.
func (a *adapter) serveDocument() http.Handler {
	document := sync.OnceValues(func() ([]byte, error) { return Document(a.doc) })
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

// Document writes an API's document, indented. It says some things otherwise than huma, for the generators of clients: a
// nullable object is a reference or null, so that the component itself is an object; an enum of a nullable value holds null; JSON is the first media type of a body,
// since many generators take the first; and components that nothing refers to are left out.
func Document(doc *huma.OpenAPI) ([]byte, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	root, err := parseTree(text)
	if err != nil {
		return nil, err
	}
	schemas := root.get("components", "schemas")
	for nullable := range nullables(schemas) {
		root.orNull(schemaRef + nullable)
	}
	root.nullInEnums()
	root.jsonFirst()
	dropUnused(root, schemas)
	out, err := root.write()
	if err != nil {
		return nil, err
	}
	value := jsontext.Value(out)
	if err := value.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil, err
	}
	return append(value, '\n'), nil
}

const schemaRef = "#/components/schemas/"

// nullables makes the components that are an object or null plain objects, and returns their names.
func nullables(schemas *tree) map[string]bool {
	found := map[string]bool{}
	for _, component := range schemas.members {
		kind := component.value.get("type")
		if kind == nil || len(kind.items) != 2 {
			continue
		}
		found[component.name] = true
		component.value.set("type", kind.items[0])
	}
	return found
}

// dropUnused removes the components that nothing refers to, and then those that only they referred to.
func dropUnused(root, schemas *tree) {
	for {
		used := map[string]bool{}
		root.refs(used)
		kept := schemas.members[:0]
		for _, component := range schemas.members {
			if used[schemaRef+component.name] {
				kept = append(kept, component)
			}
		}
		if len(kept) == len(schemas.members) {
			return
		}
		schemas.members = kept
	}
}
