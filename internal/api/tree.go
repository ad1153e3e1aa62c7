package api

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// tree is a JSON value whose objects keep the order of their members.
type tree struct {
	kind    jsontext.Kind
	members []member // of an object
	items   []*tree  // of an array
	scalar  jsontext.Value
}

type member struct {
	name  string
	value *tree
}

func parseTree(text []byte) (*tree, error) {
	return readTree(jsontext.NewDecoder(bytes.NewReader(text)))
}

func readTree(dec *jsontext.Decoder) (*tree, error) {
	t := &tree{kind: dec.PeekKind()}
	if t.kind != '{' && t.kind != '[' {
		value, err := dec.ReadValue()
		t.scalar = value.Clone()
		return t, err
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	for dec.PeekKind() != '}' && dec.PeekKind() != ']' {
		if err := t.readNext(dec); err != nil {
			return nil, err
		}
	}
	_, err := dec.ReadToken()
	return t, err
}

// readNext reads one member or item.
func (t *tree) readNext(dec *jsontext.Decoder) error {
	name := ""
	if t.kind == '{' {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		name = token.String()
	}
	value, err := readTree(dec)
	if err != nil {
		return err
	}
	if t.kind == '{' {
		t.members = append(t.members, member{name, value})
	} else {
		t.items = append(t.items, value)
	}
	return nil
}

// get returns the value at a path of names; nil if there is none.
func (t *tree) get(path ...string) *tree {
	for _, name := range path {
		if t == nil {
			return nil
		}
		i := slices.IndexFunc(t.members, func(m member) bool { return m.name == name })
		if i < 0 {
			return nil
		}
		t = t.members[i].value
	}
	return t
}

func (t *tree) set(name string, value *tree) {
	for i := range t.members {
		if t.members[i].name == name {
			t.members[i].value = value
			return
		}
	}
	t.members = append(t.members, member{name, value})
}

func textTree(text string) *tree {
	value, _ := jsontext.AppendQuote(nil, text) // It fails on invalid UTF-8 only.
	return &tree{kind: '"', scalar: value}
}

// text of a string; empty for anything else.
func (t *tree) text() string {
	if t == nil || t.kind != '"' {
		return ""
	}
	text, _ := jsontext.AppendUnquote(nil, t.scalar)
	return string(text)
}

// each calls do for every value of the tree, the inner ones first.
func (t *tree) each(do func(*tree)) {
	for _, m := range t.members {
		m.value.each(do)
	}
	for _, item := range t.items {
		item.each(do)
	}
	do(t)
}

// refs collects what the tree refers to.
func (t *tree) refs(into map[string]bool) {
	t.each(func(t *tree) {
		if ref := t.get("$ref").text(); ref != "" {
			into[ref] = true
		}
	})
}

// orNull lets null take the place of each reference to a schema. What is said beside the reference stays.
func (t *tree) orNull(ref string) {
	t.each(func(t *tree) {
		for i, m := range t.members {
			if m.name != "$ref" || m.value.text() != ref {
				continue
			}
			null := &tree{kind: '{', members: []member{{"type", textTree("null")}}}
			same := &tree{kind: '{', members: []member{m}}
			t.members[i] = member{"anyOf", &tree{kind: '[', items: []*tree{same, null}}}
			return
		}
	})
}

// nullInEnums adds null to the enum of each schema whose type allows it.
func (t *tree) nullInEnums() {
	null := func(t *tree) bool { return t.kind == 'n' }
	t.each(func(t *tree) {
		kinds, enum := t.get("type"), t.get("enum")
		if kinds == nil || len(kinds.items) != 2 || enum == nil || slices.ContainsFunc(enum.items, null) {
			return
		}
		enum.items = append(enum.items, &tree{kind: 'n', scalar: jsontext.Value("null")})
	})
}

// jsonFirst puts JSON before the other media types of each body, and merge patches after it.
func (t *tree) jsonFirst() {
	rank := func(m member) int {
		switch m.name {
		case "application/json":
			return 0
		case "application/merge-patch+json":
			return 1
		}
		return 2
	}
	t.each(func(t *tree) {
		content := t.get("content")
		if content == nil {
			return
		}
		slices.SortStableFunc(content.members, func(a, b member) int { return rank(a) - rank(b) })
	})
}

func (t *tree) write() ([]byte, error) {
	var buf bytes.Buffer
	err := t.encode(jsontext.NewEncoder(&buf))
	return buf.Bytes(), err
}

func (t *tree) encode(enc *jsontext.Encoder) error {
	switch t.kind {
	case '{':
		return t.encodeIn(enc, jsontext.BeginObject, jsontext.EndObject)
	case '[':
		return t.encodeIn(enc, jsontext.BeginArray, jsontext.EndArray)
	}
	return enc.WriteValue(t.scalar)
}

func (t *tree) encodeIn(enc *jsontext.Encoder, begin, end jsontext.Token) error {
	if err := enc.WriteToken(begin); err != nil {
		return err
	}
	for _, m := range t.members {
		if err := enc.WriteToken(jsontext.String(m.name)); err != nil {
			return err
		}
		if err := m.value.encode(enc); err != nil {
			return err
		}
	}
	for _, item := range t.items {
		if err := item.encode(enc); err != nil {
			return err
		}
	}
	return enc.WriteToken(end)
}
