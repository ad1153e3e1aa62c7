package api

import "github.com/danielgtaylor/huma/v2"

// documentExamples gives each JSON body an example that is put together from those of its fields.
func (a *adapter) documentExamples(op *huma.Operation) {
	if op.RequestBody == nil {
		return
	}
	for _, media := range op.RequestBody.Content {
		if media.Example == nil && len(media.Examples) == 0 && media.Schema != nil {
			media.Example = a.example(media.Schema, 0)
		}
	}
}

// example of a schema; nil if its fields have none.
func (a *adapter) example(s *huma.Schema, depth int) any {
	if s.Ref != "" {
		s = a.doc.Components.Schemas.SchemaFromRef(s.Ref)
	}
	if s == nil || depth > maxPatchDepth {
		return nil
	}
	if len(s.Examples) > 0 {
		return s.Examples[0]
	}
	fields := map[string]any{}
	for name, property := range s.Properties {
		if value := a.example(property, depth+1); value != nil && name != "tenant" { // Whoever is no admin has one already.
			fields[name] = value
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return fields
}
