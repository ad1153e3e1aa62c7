package api

import (
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// newRegistry makes an empty registry of schemas.
func newRegistry() huma.Registry {
	r := huma.NewMapRegistry(schemaRef, schemaNamer())
	r.RegisterTypeAlias(reflect.TypeFor[uuid.UUID](), reflect.TypeFor[uuidText]())
	return r
}

// uuidText stands for uuid.UUID in schemas.
type uuidText struct{}

// Schema is that of an id.
func (uuidText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid"}
}

// schemaNamer names components: a type by its own name without the ending JSON, a list by its items, and the package's name
// before it where another type has the name already.
func schemaNamer() func(reflect.Type, string) string {
	taken := map[string]reflect.Type{}
	return func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		name := componentName(t, hint)
		if t.Kind() != reflect.Struct {
			return name
		}
		if other, ok := taken[name]; ok && other != t && t.PkgPath() != "" {
			pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
			name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
		}
		taken[name] = t
		return name
	}
}

func componentName(t reflect.Type, hint string) string {
	switch t {
	case reflect.TypeFor[Problem]():
		return "Problem"
	case reflect.TypeFor[Detail]():
		return "ProblemDetail"
	}
	name := strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "JSON")
	if strings.HasPrefix(t.Name(), "List[") {
		name = strings.TrimPrefix(name, "List") + "List"
	}
	return name
}
