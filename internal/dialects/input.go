package dialects

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds a request's body as that of the native API is; vendors' clients send a few hundred bytes.
const maxBody = 256 << 10

// bodyTimeout is how long a body may take to arrive.
const bodyTimeout = 15 * time.Second

// maxBodyDepth bounds the nesting of a JSON body.
const maxBodyDepth = 64

// Input is a decoded body: JSON or a form, by the same names. Numbers are json.Number.
type Input map[string]any

// errMalformed is a body that is neither JSON nor a form.
var errMalformed = errors.New("the body is not valid")

// readInput decodes the body as what it is rather than as what it is called: clients send JSON as
// json-patch, as text and as nothing at all. An empty body and a list (as PHP encodes an empty object) are
// an empty Input.
func readInput(w http.ResponseWriter, r *http.Request) (Input, error) {
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if len(body) == 0 {
		return Input{}, nil
	}
	kind, parameters, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "multipart/form-data" {
		return readMultipart(body, parameters["boundary"])
	}
	if kind == "application/x-www-form-urlencoded" && body[0] != '{' {
		form, err := parseForm(string(body))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errMalformed, err)
		}
		return form, nil
	}
	return decodeJSON(body)
}

// readMultipart reads the fields of multipart/form-data by the same names as those of a form; files are no fields.
func readMultipart(body []byte, boundary string) (Input, error) {
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(maxBody)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	defer form.RemoveAll() //nolint:errcheck // nothing was written: the body fits into memory
	fields, err := parseForm(url.Values(form.Value).Encode())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return fields, nil
}

// InputWithQuery is Input, where fields may also stand in the query; those of the body win.
func (c *Call) InputWithQuery() (Input, error) {
	in, err := c.Input()
	if err != nil {
		return nil, err
	}
	fields, err := parseForm(c.R.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	maps.Copy(fields, in)
	return fields, nil
}

// readBody reads all of the body, within bodyTimeout, or fails.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	// A deadline fails where there is no connection, as in some tests: then nothing is slow either.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil { // Else the server would await the rest before it sends the answer, without end.
		_ = control.SetReadDeadline(time.Time{})
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &Failure{
			Status:  http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("The body is larger than %d bytes.", tooLarge.Limit),
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &Failure{Status: http.StatusRequestTimeout, Message: "The body did not arrive in time."}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return body, nil
}

func decodeJSON(body []byte) (Input, error) {
	if depth(body) > maxBodyDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", errMalformed, maxBodyDepth)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the JSON value", errMalformed)
	}
	switch value := value.(type) {
	case map[string]any:
		return value, nil
	case []any:
		if len(value) == 0 {
			return Input{}, nil
		}
	}
	return nil, fmt.Errorf("%w: expected an object", errMalformed)
}

// depth is how deep the brackets nest, without decoding.
func depth(body []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// Has says that the field was sent, be it as null.
func (in Input) Has(name string) bool {
	_, ok := in[name]
	return ok
}

// Gives says that the field was sent, and not as null.
func (in Input) Gives(name string) bool { return in[name] != nil }

// Object is the object below name; nil if there is none.
func (in Input) Object(name string) Input {
	object, _ := in[name].(map[string]any)
	return object
}

// Text is the field as text. Numbers are text as well, since PHP and forms do not tell them apart; ok is
// false if it is absent, null or of another type.
func (in Input) Text(name string) (text string, ok bool) {
	switch value := in[name].(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	}
	return "", false
}

// Bool is the field as a boolean, with the spellings of forms.
func (in Input) Bool(name string) (value, ok bool) {
	switch value := in[name].(type) {
	case bool:
		return value, true
	case string, json.Number:
		switch strings.ToLower(fmt.Sprint(value)) {
		case "1", "true":
			return true, true
		case "0", "false":
			return false, true
		}
	}
	return false, false
}

// Int is the field as a whole number.
func (in Input) Int(name string) (n int, ok bool) {
	text, ok := in.Text(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// Texts is the field as a list of texts; a single text is a list of one. ok is false if something in it is no text.
func (in Input) Texts(name string) (list []string, ok bool) {
	switch value := in[name].(type) {
	case nil:
		return nil, true
	case string:
		if value == "" {
			return nil, true
		}
		return []string{value}, true
	case []any:
		for _, item := range value {
			text, isText := item.(string)
			if !isText {
				return nil, false
			}
			list = append(list, text)
		}
		return list, true
	}
	return nil, false
}

// TextMap is the field as a map of texts; null and an empty list (PHP's empty map) are an empty one.
func (in Input) TextMap(name string) (m map[string]string, ok bool) {
	switch value := in[name].(type) {
	case nil:
		return nil, true
	case []any:
		return nil, len(value) == 0
	case map[string]any:
		m = make(map[string]string, len(value))
		for key := range value {
			if m[key], ok = Input(value).Text(key); !ok {
				return nil, false
			}
		}
		return m, true
	}
	return nil, false
}
