package api

import (
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// hookOnce guards what huma keeps in variables of its package; every API of this process needs them alike.
var hookOnce sync.Once

// hookHuma makes huma compare field names exactly, as the JSON decoder does, and gives it our way from an error to a
// problem.
func hookHuma() {
	hookOnce.Do(func() {
		huma.ValidateStrictCasing = true
		before := huma.NewErrorWithContext
		huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
			if requestFrom(ctx.Context()) == nil { // another API of this process
				return before(ctx, status, message, errs...)
			}
			return humaProblem(ctx, status, message, errs)
		}
	})
}

// humaProblem makes the problem of an error that huma met.
func humaProblem(ctx huma.Context, status int, message string, errs []error) huma.StatusError {
	if status == http.StatusInternalServerError && len(errs) == 1 {
		// An error of the operation or of reading the body, which huma does not judge.
		p, header := ProblemOf(ctx.Context(), errs[0])
		logError(ctx.Context(), p.Status, errs[0])
		for name := range header {
			ctx.SetHeader(name, header.Get(name))
		}
		return p
	}
	p := problem(status, message)
	for _, err := range errs {
		if len(p.Errors) == maxDetails {
			break
		}
		if d := detail(err); d != nil {
			p.Errors = append(p.Errors, d)
		}
	}
	return p
}

const (
	// maxDetails is how many errors a problem reports. A body of 1 MiB can hold 100,000 of them.
	maxDetails = 50
	// maxLocation bounds a location in bytes: it holds names that the caller made up.
	maxLocation = 256
)

const (
	missingPrefix = "expected required property "
	missingSuffix = " to be present"
)

// detail moves into the location what huma says in the message, and drops the value: huma repeats whole bodies,
// which may hold secrets.
func detail(err error) *Detail {
	if err == nil {
		return nil
	}
	var d *Detail
	if from, ok := err.(huma.ErrorDetailer); ok {
		d = from.ErrorDetail()
	} else {
		// huma's own errors never come here: their text holds the whole body, once for each error.
		d = &Detail{Message: err.Error()}
	}
	out := &Detail{Location: d.Location, Message: d.Message}
	if rest, ok := strings.CutPrefix(d.Message, missingPrefix); ok {
		if name, ok := strings.CutSuffix(rest, missingSuffix); ok {
			out.Location, out.Message = join(d.Location, name), "is required"
		}
	}
	if located, ok := strings.CutPrefix(d.Message, placeMark); ok {
		place, message, _ := strings.Cut(located, placeMark)
		out.Location, out.Message = d.Location+place, message
	}
	if strings.HasPrefix(out.Location, "query.") || strings.HasPrefix(out.Location, "path.") {
		if text, ok := d.Value.(string); ok && len(text) <= 128 {
			out.Value = text
		}
	}
	out.Location = clip(out.Location, maxLocation)
	return out
}

// clip shortens a text to so many bytes.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

func join(location, name string) string {
	if location == "" {
		return name
	}
	return location + "." + name
}
