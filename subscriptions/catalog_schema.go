package subscriptions

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// componentsOf are the schemas of an event type as components of a document: that of its data by the type's name, and those of its
// $defs. A schema with an $id or anchors stays in one piece, as a resource of its own.
func componentsOf(t *EventType) (map[string]any, error) {
	if len(t.Schema) == 0 {
		return map[string]any{t.Name: map[string]any{}}, nil
	}
	doc, err := decodeExact(t.Schema)
	if err != nil {
		return nil, err
	}
	root, is := doc.(map[string]any)
	switch {
	case !is && doc == false:
		return map[string]any{t.Name: map[string]any{"not": map[string]any{}}}, nil
	case !is:
		return map[string]any{t.Name: map[string]any{}}, nil
	case addressed(root):
		if _, has := root["$id"]; !has {
			root["$id"] = "urn:fanfare:event-type:" + t.Name
		}
		return map[string]any{t.Name: root}, nil
	}
	return apart(t.Name, root), nil
}

// addressed reports whether a schema has addresses other than pointers.
func addressed(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, addressed)
	case map[string]any:
		for name, member := range v {
			switch name {
			case "$id", "$anchor", "$dynamicAnchor", "$dynamicRef":
				return true
			case "$ref":
				if to, is := member.(string); is && to != "#" && !strings.HasPrefix(to, "#/") {
					return true
				}
			}
			if addressed(member) {
				return true
			}
		}
	}
	return false
}

// apart takes a schema and its $defs apart to components, whose references lead to each other.
func apart(name string, root map[string]any) map[string]any {
	m := mover{base: "#/components/schemas/", name: name, defs: map[string]string{}}
	all := map[string]any{name: root}
	defs, _ := root["$defs"].(map[string]any)
	for _, def := range slices.Sorted(maps.Keys(defs)) {
		component := name + "-" + plainName(def) // no type has a dash in its name
		for n := 2; all[component] != nil; n++ {
			component = fmt.Sprintf("%s-%s-%d", name, plainName(def), n)
		}
		m.defs[def] = component
		if all[component] = defs[def]; defs[def] == true {
			all[component] = map[string]any{}
		}
	}
	delete(root, "$defs")
	delete(root, "$schema")
	for _, schema := range all {
		m.schema(schema)
	}
	return all
}

// plainName replaces the characters that the name of a component may not have.
func plainName(def string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, def)
}

// mover lets the references of a schema lead to where its parts are moved.
type mover struct {
	base, name string
	defs       map[string]string // the components of $defs
}

// schema moves the references within a schema, and nothing in the data that it holds.
func (m mover) schema(v any) {
	s, is := v.(map[string]any)
	if !is {
		return
	}
	for keyword, value := range s {
		switch keyword {
		case "$ref":
			if to, is := value.(string); is {
				s[keyword] = m.to(to)
			}
		case "enum", "const", "default", "example", "examples":
		case "properties", "patternProperties", "dependentSchemas", "$defs", "definitions":
			if named, is := value.(map[string]any); is {
				for _, sub := range named {
					m.schema(sub)
				}
			}
		case "allOf", "anyOf", "oneOf", "prefixItems":
			if list, is := value.([]any); is {
				for _, sub := range list {
					m.schema(sub)
				}
			}
		default:
			m.schema(value)
		}
	}
}

// to is where a pointer into the schema leads now.
func (m mover) to(pointer string) string {
	rest, below := strings.CutPrefix(pointer, "#/$defs/")
	if below {
		token, further, more := strings.Cut(rest, "/")
		def, err := url.PathUnescape(token)
		if err == nil {
			def = strings.NewReplacer("~1", "/", "~0", "~").Replace(def)
		}
		if component, known := m.defs[def]; known {
			if more {
				component += "/" + further
			}
			return m.base + component
		}
	}
	return m.base + m.name + strings.TrimPrefix(pointer, "#")
}
