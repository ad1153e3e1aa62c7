package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	jsonpatch "github.com/evanphx/json-patch/v5"
)

// Patch is the body of a PATCH: a JSON Merge Patch (RFC 7386) onto the JSON form of T, which is the type of the fields
// that a caller may set; its method PatchName, if it has one, names the patch in the document. Fields that T does not have are refused; null clears a field.
type Patch[T any] struct {
	raw    []byte
	fields map[string]json.RawMessage
}

// UnmarshalJSON keeps the patch as it is.
func (p *Patch[T]) UnmarshalJSON(data []byte) error {
	p.raw = append([]byte(nil), data...)
	return json.Unmarshal(data, &p.fields)
}

// Has says whether the patch names a field of the first level, be it with null.
func (p Patch[T]) Has(field string) bool {
	_, ok := p.fields[field]
	return ok
}

// Field is what the patch holds for a field of the first level; nil for nothing.
func (p Patch[T]) Field(field string) json.RawMessage { return p.fields[field] }

// Apply returns current with the patch merged in. The result must fit T's schema as a whole, else the error is a
// 422: so null is refused for required fields, and clears optional ones.
func (p Patch[T]) Apply(current T) (T, error) {
	var next T
	document, err := json.Marshal(current)
	if err != nil {
		return next, fmt.Errorf("encode current form: %w", err)
	}
	raw := p.raw
	if len(raw) == 0 {
		raw = []byte("{}")
	}
	merged, err := jsonpatch.MergePatch(document, raw)
	if err != nil {
		return next, Invalid(At("body", "is not a merge patch"))
	}
	if err := validate[T](merged); err != nil {
		return next, err
	}
	if err := unmarshal(merged, &next); err != nil {
		return next, Invalid(detail(At("body", err.Error())))
	}
	return next, nil
}

// validate judges a document by T's schema.
func validate[T any](document []byte) error {
	var parsed any
	if err := unmarshal(document, &parsed); err != nil {
		return Invalid(detail(At("body", err.Error())))
	}
	registry := newRegistry()
	schema := registry.Schema(reflect.TypeFor[T](), true, "Patched")
	path, result := huma.NewPathBuffer([]byte{}, 0), &huma.ValidateResult{}
	path.Push("body")
	huma.Validate(registry, schema, path, huma.ModeWriteToServer, parsed, result)
	if len(result.Errors) == 0 {
		return nil
	}
	details := make([]error, min(len(result.Errors), maxDetails))
	for i, err := range result.Errors[:len(details)] {
		details[i] = detail(err)
	}
	return Invalid(details...)
}

// Schema refers to a component that is T's with every field optional and nullable.
func (Patch[T]) Schema(r huma.Registry) *huma.Schema {
	t := reflect.TypeFor[T]()
	name := componentName(t, "") + "Patch"
	if named, ok := reflect.Zero(t).Interface().(interface{ PatchName() string }); ok {
		name = named.PatchName()
	}
	if r.Map()[name] == nil {
		r.Map()[name] = patchSchema[T](r)
	}
	return &huma.Schema{Ref: schemaRef + name}
}

func patchSchema[T any](r huma.Registry) *huma.Schema {
	s := relaxed(r, r.Schema(reflect.TypeFor[T](), true, "Patch"), 0)
	s.Nullable = false // the patch itself is no null
	return s
}

// maxPatchDepth ends the unfolding of types that contain themselves.
const maxPatchDepth = 8

func relaxed(r huma.Registry, s *huma.Schema, depth int) *huma.Schema {
	if depth > maxPatchDepth {
		return &huma.Schema{}
	}
	description := s.Description
	for s.Ref != "" {
		s = r.SchemaFromRef(s.Ref)
	}
	out := *s
	if description != "" {
		out.Description = description
	}
	out.Required, out.DependentRequired, out.Default = nil, nil, nil
	out.Nullable = out.Type != ""
	if s.Properties != nil {
		out.Properties = maps.Clone(s.Properties)
		for name, property := range s.Properties {
			out.Properties[name] = relaxed(r, property, depth+1)
		}
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		out.AdditionalProperties = relaxed(r, values, depth+1)
	}
	if len(out.Enum) > 0 {
		out.Enum = append(append([]any(nil), out.Enum...), nil)
	}
	out.PrecomputeMessages()
	return &out
}
