package history

import (
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/lib/pq"
)

// HTTPStatus is a status of HTTP in a filter: one such as 503, or a class such as 5xx.
type HTTPStatus string

// Schema documents it.
func (HTTPStatus) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{
		Type: huma.TypeString, Pattern: "^[1-5]([0-9][0-9]|xx)$", Description: "A status, or a class of them", Examples: []any{"5xx"},
	}
	s.PrecomputeMessages()
	return s
}

// split divides statuses into single ones and classes.
func split(list []HTTPStatus) (exact, classes pq.Int64Array) {
	exact, classes = pq.Int64Array{}, pq.Int64Array{}
	for _, s := range list {
		if n, err := strconv.Atoi(string(s)); err == nil {
			exact = append(exact, int64(n))
		} else if s != "" {
			classes = append(classes, int64(s[0]-'0'))
		}
	}
	return exact, classes
}
