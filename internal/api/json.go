package api

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// placeMark encloses the place within a body at the start of a decoding error's text, since text is all
// of it that huma hands on. U+0000 cannot be part of a message otherwise.
const placeMark = "\x00"

func formats() map[string]huma.Format {
	format := huma.Format{Marshal: marshal, Unmarshal: unmarshal}
	// "json" stands for every type that ends in +json, such as application/merge-patch+json.
	return map[string]huma.Format{"application/json": format, "json": format}
}

func marshal(w io.Writer, v any) error {
	e := stdjson.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// unmarshal is strict: repeated names, invalid UTF-8 and text after the value are errors. U+0000 is one as well, in names
// and in strings, since Postgres stores it neither as text nor as jsonb.
func unmarshal(data []byte, v any) error {
	if bytes.Contains(data, []byte(`\u0000`)) && holdsNUL(data) {
		return errors.New("must not hold U+0000")
	}
	err := json.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("is not valid JSON: %w", syntax.Err)
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		return errors.New(placeMark + place(semantic.JSONPointer) + placeMark + reason(semantic))
	}
	return errors.New("is not valid JSON")
}

// holdsNUL looks at the tokens, since \\u0000 is a backslash and four harmless zeros.
func holdsNUL(data []byte) bool {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return false // the end, or an error that decoding reports
		}
		if token.Kind() == '"' && strings.IndexByte(token.String(), 0) >= 0 {
			return true
		}
	}
}

// reason is why a value does not fit, in the words of the type that refused it; names of Go types are nobody's business.
func reason(err *json.SemanticError) string {
	if err.Err == nil {
		return "has the wrong type"
	}
	if _, ok := errors.AsType[*stdjson.UnmarshalTypeError](err.Err); ok {
		return "has the wrong type"
	}
	return err.Err.Error()
}

// place turns a JSON pointer into the form of locations: /retry/schedule/0 is .retry.schedule[0].
func place(pointer jsontext.Pointer) string {
	var b strings.Builder
	for token := range pointer.Tokens() {
		if _, err := strconv.ParseUint(token, 10, 32); err == nil {
			b.WriteString("[" + token + "]")
			continue
		}
		b.WriteString("." + token)
	}
	return b.String()
}
