package postgres

import (
	"slices"
	"strconv"
	"strings"
)

// Where is the condition of a statement that is put together from parts, with its arguments. The zero value holds for each row.
type Where struct {
	parts []string
	args  []any
}

// After returns a condition without parts whose arguments follow those of w, in the same statement.
func (w *Where) After() *Where { return &Where{args: slices.Clip(w.args)} }

// Arg adds an argument and returns its place, such as $3.
func (w *Where) Arg(value any) string {
	w.args = append(w.args, value)
	return "$" + strconv.Itoa(len(w.args))
}

// And adds a part that must hold too. Each ? in it is the place of the next value.
func (w *Where) And(part string, values ...any) {
	for _, v := range values {
		part = strings.Replace(part, "?", w.Arg(v), 1)
	}
	w.parts = append(w.parts, part)
}

// Args are the arguments, in the order of their places.
func (w *Where) Args() []any { return w.args }

// String is the condition, without the word WHERE.
func (w *Where) String() string {
	if len(w.parts) == 0 {
		return "true"
	}
	return strings.Join(w.parts, " AND ")
}

// Direction returns how the rows of a list are ordered, and how those of the next page compare with the last of the one before.
func Direction(asc bool) (order, beyond string) {
	if asc {
		return "ASC", ">"
	}
	return "DESC", "<"
}
