package subscriptions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

const (
	schemaDraft   = "https://json-schema.org/draft/2020-12/schema"
	schemaURL     = "fanfare:schema" // a name for the root; nothing is ever loaded from it
	maxViolations = 20
	// maxNumberText and maxExponent bound numbers that a schema looks at: they are compared exactly, and
	// 1e999999 is a number of a million digits.
	maxNumberText = 400
	maxExponent   = 400
)

// Violation is a place in an event's data that does not fit the schema of its type.
type Violation struct {
	Location string // data.items[3].name
	Message  string
}

// schema is a compiled JSON Schema. It is safe for concurrent use.
type schema struct{ root *jsonschema.Schema }

// words writes messages; it is made anew each time, since it is not said to be safe for concurrent use.
func words() *message.Printer { return message.NewPrinter(language.English) }

// compileSchema compiles a JSON Schema 2020-12 that refers to nothing outside of itself.
func compileSchema(source []byte) (*schema, error) {
	if len(source) > maxSchemaBytes {
		return nil, fmt.Errorf("must not be larger than %d bytes", maxSchemaBytes)
	}
	doc, err := decodeExact(source)
	if err != nil {
		return nil, err
	}
	switch d := doc.(type) {
	case bool:
	case map[string]any:
		if draft, ok := d["$schema"]; ok && strings.TrimSuffix(fmt.Sprint(draft), "#") != schemaDraft {
			return nil, fmt.Errorf("must be of JSON Schema 2020-12 (%s)", schemaDraft)
		}
	default:
		return nil, errors.New("must be an object or a boolean")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(boundedPattern)
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, schemaError(err)
	}
	root, err := c.Compile(schemaURL)
	if err != nil {
		return nil, schemaError(err)
	}
	return &schema{root}, nil
}

// schemaError says what is wrong with a schema without the address that we made up for it.
func schemaError(err error) error {
	invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err)
	if !ok {
		return errors.New(strings.ReplaceAll(err.Error(), schemaURL, "the schema"))
	}
	cause, ok := errors.AsType[*jsonschema.ValidationError](invalid.Err)
	if !ok {
		return errors.New("is no valid JSON Schema")
	}
	first := violations(cause, words())[0]
	return fmt.Errorf("is no valid JSON Schema: %s: %s", strings.Replace(first.Location, "data", "schema", 1), first.Message)
}

// errRemote is what any $ref to another document comes to.
var errRemote = errors.New("references to other documents are not followed")

type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errRemote }

// boundedPattern bounds regular expressions as those of filters are.
func boundedPattern(text string) (jsonschema.Regexp, error) {
	pattern, _, err := compilePattern(text)
	return pattern, err
}

// validate returns where data does not fit, the first few places.
func (s *schema) validate(data []byte) []Violation {
	doc, err := decodeExact(data)
	if err != nil {
		return []Violation{{"data", err.Error()}}
	}
	if err = s.root.Validate(doc); err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []Violation{{"data", "does not fit the schema"}}
	}
	return violations(invalid, words())
}

// violations are the leaves of a tree of errors, by location.
func violations(err *jsonschema.ValidationError, p *message.Printer) []Violation {
	var all []Violation
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(e.Causes) == 0 {
			all = append(all, explainViolation(e, p)...)
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	walk(err)
	slices.SortStableFunc(all, func(a, b Violation) int {
		return cmp.Or(strings.Compare(a.Location, b.Location), strings.Compare(a.Message, b.Message))
	})
	all = slices.Compact(all)
	return all[:min(len(all), maxViolations)]
}

// explainViolation puts a missing property at its own place, not at its parent's.
func explainViolation(e *jsonschema.ValidationError, p *message.Printer) []Violation {
	at := location(e.InstanceLocation)
	if missing, ok := e.ErrorKind.(*kind.Required); ok {
		var all []Violation
		for _, name := range missing.Missing {
			all = append(all, Violation{at + "." + name, "is required"})
		}
		return all
	}
	return []Violation{{at, e.ErrorKind.LocalizedString(p)}}
}

// location writes a path into data as the API does.
func location(path []string) string {
	var b strings.Builder
	b.WriteString("data")
	for _, key := range path {
		if _, err := strconv.Atoi(key); err == nil {
			b.WriteString("[" + key + "]")
		} else {
			b.WriteString("." + key)
		}
	}
	return b.String()
}

// decodeExact decodes JSON with its numbers as they are written.
func decodeExact(data []byte) (any, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("is no valid JSON")
	}
	return doc, checkNumbers(doc)
}

func checkNumbers(doc any) error {
	switch d := doc.(type) {
	case json.Number:
		_, exponent, _ := strings.Cut(strings.ToLower(string(d)), "e")
		n, err := strconv.Atoi(cmp.Or(exponent, "0"))
		if len(d) > maxNumberText || err != nil || n > maxExponent || n < -maxExponent {
			return errors.New("has a number that is out of range")
		}
	case []any:
		for _, e := range d {
			if err := checkNumbers(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, e := range d {
			if err := checkNumbers(e); err != nil {
				return err
			}
		}
	}
	return nil
}
