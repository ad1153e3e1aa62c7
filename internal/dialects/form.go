package dialects

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The bounds of a form. Clients send a dozen fields.
const (
	maxFormFields = 1000
	maxFormDepth  = 8
	maxFormIndex  = 1000
)

// parseForm reads application/x-www-form-urlencoded as PHP does: name[]=a&name[]=b and name[0]=a&name[1]=b
// are lists, name[key]=a is an object. Values stay strings. Later values of the same name win.
func parseForm(body string) (map[string]any, error) {
	pairs := strings.Split(body, "&")
	if len(pairs) > maxFormFields {
		return nil, fmt.Errorf("more than %d fields", maxFormFields)
	}
	root := &formNode{}
	for _, pair := range pairs {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, fmt.Errorf("field name: %w", err)
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		keys, err := formKeys(name)
		if err != nil {
			return nil, err
		}
		root.set(keys, value)
	}
	form := make(map[string]any, len(root.nodes))
	for name, child := range root.nodes {
		form[name] = child.value()
	}
	return form, nil
}

// formKeys splits a[b][] into a, b and "".
func formKeys(name string) ([]string, error) {
	first, rest, nested := strings.Cut(name, "[")
	keys := []string{first}
	if !nested {
		return keys, nil
	}
	if first == "" || !strings.HasSuffix(rest, "]") {
		return []string{name}, nil // as PHP: brackets that do not pair are part of the name
	}
	for key := range strings.SplitSeq(strings.TrimSuffix(rest, "]"), "][") {
		keys = append(keys, key)
		if len(keys) > maxFormDepth {
			return nil, fmt.Errorf("field %.40s is nested deeper than %d", name, maxFormDepth)
		}
	}
	return keys, nil
}

// formNode is a value or the values below it, in the order in which they came.
type formNode struct {
	text  string
	keys  []string
	nodes map[string]*formNode
	next  int // the index that "[]" takes
}

func (n *formNode) set(keys []string, value string) {
	if len(keys) == 0 {
		n.text, n.keys, n.nodes = value, nil, nil
		return
	}
	key := keys[0]
	if key == "" {
		key = strconv.Itoa(n.next)
	}
	if i, err := strconv.Atoi(key); err == nil && i >= n.next && i < maxFormIndex {
		n.next = i + 1
	}
	child := n.nodes[key]
	if child == nil {
		if n.nodes == nil {
			n.nodes = map[string]*formNode{}
		}
		child = &formNode{}
		n.nodes[key] = child
		n.keys = append(n.keys, key)
	}
	child.set(keys[1:], value)
}

// value is a string, a list where all keys below the top are indexes, or an object.
func (n *formNode) value() any {
	if n.nodes == nil {
		return n.text
	}
	if list, ok := n.list(); ok {
		return list
	}
	object := make(map[string]any, len(n.nodes))
	for key, child := range n.nodes {
		object[key] = child.value()
	}
	return object
}

func (n *formNode) list() ([]any, bool) {
	indexes := make([]int, 0, len(n.keys))
	for _, key := range n.keys {
		i, err := strconv.Atoi(key)
		if err != nil || i < 0 || strconv.Itoa(i) != key {
			return nil, false
		}
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	list := make([]any, len(indexes))
	for i, index := range indexes {
		list[i] = n.nodes[strconv.Itoa(index)].value()
	}
	return list, true
}
