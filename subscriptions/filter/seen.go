package filter

import (
	"fmt"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"
)

// Bounds of Seen: the number of values, and the length of each in characters.
const (
	maxSeenPaths = 8
	maxSeenText  = 80
)

// seenPath is a path into an event's data that a filter reads: [total], or [customer country].
type seenPath []string

// Seen lists the values that the filter read in the event, as in "data.total was 90, data.status is missing".
func (f *Filter) Seen(in *Input) string {
	var seen []string
	for _, path := range f.paths {
		name := "data." + strings.Join(path, ".")
		if v, ok := path.of(in); ok {
			seen = append(seen, name+" was "+show(v))
		} else {
			seen = append(seen, name+" is missing")
		}
	}
	return strings.Join(seen, ", ")
}

func (p seenPath) of(in *Input) (value, bool) {
	v, err := in.data()
	if err != nil {
		return nil, false
	}
	for _, key := range p {
		o, ok := v.(*object)
		if !ok {
			return nil, false
		}
		if v, ok = o.find(key); !ok {
			return nil, false
		}
	}
	return v, true
}

// show writes a value in short form.
func show(v value) string {
	switch v := v.(type) {
	case types.String:
		if len(v) > maxSeenText {
			return strconv.Quote(strings.ToValidUTF8(string(v[:maxSeenText]), "") + "...")
		}
		return strconv.Quote(string(v))
	case types.Double:
		return doubleText(v)
	case *wide:
		return v.text[:min(len(v.text), maxSeenText)]
	case types.Null:
		return "null"
	case *object:
		return fmt.Sprintf("an object of %d fields", len(v.fields))
	case traits.Lister:
		return fmt.Sprintf("a list of %d", len(elements(v)))
	}
	return fmt.Sprint(v.Value())
}
