package api

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const responseRef = "#/components/responses/"

// documentErrors describes the errors of an operation: the given statuses, those that huma knows of, and any other. Each
// is one response of the components, which all operations share; a response that an operation describes itself stays.
func (a *adapter) documentErrors(op *huma.Operation, statuses []int) {
	for code, response := range op.Responses {
		status, err := strconv.Atoi(code)
		if err == nil && status >= 400 && response.Description == http.StatusText(status) {
			statuses = append(statuses, status)
			delete(op.Responses, code)
		}
	}
	for _, status := range statuses {
		if code := strconv.Itoa(status); op.Responses[code] == nil {
			op.Responses[code] = a.sharedError(strings.ReplaceAll(http.StatusText(status), " ", ""), http.StatusText(status), status)
		}
	}
	op.Responses["default"] = a.sharedError("OtherProblem", "Any other error", 0)
}

// sharedError refers to a response of the components, and makes it at its first use.
func (a *adapter) sharedError(name, description string, status int) *huma.Response {
	if a.doc.Components.Responses[name] == nil {
		a.doc.Components.Responses[name] = &huma.Response{
			Description: description, Headers: errorHeaders(status),
			Content: map[string]*huma.MediaType{"application/problem+json": {Schema: ProblemSchema(a.doc.Components.Schemas)}},
		}
	}
	return &huma.Response{Ref: responseRef + name}
}

// ProblemSchema refers to the schema of problems. huma has their type for a URI, where RFC 9457 has a reference.
func ProblemSchema(r huma.Registry) *huma.Schema {
	ref := r.Schema(reflect.TypeFor[Problem](), true, "")
	r.SchemaFromRef(ref.Ref).Properties["type"].Format = "uri-reference"
	return ref
}

// errorHeaders are those that the answers of a status may have; 0 stands for any status.
func errorHeaders(status int) map[string]*huma.Header {
	headers := map[string]*huma.Header{}
	text := func(name, description string) {
		headers[name] = &huma.Header{Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		text("WWW-Authenticate", "How to authenticate, and which scope is missing.")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, 0:
		text("Retry-After", "How many seconds to wait before the next request.")
	}
	if len(headers) == 0 {
		return nil
	}
	return headers
}
