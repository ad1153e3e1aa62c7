package subscriptions

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/fanfarehq/fanfare/subscriptions/filter"
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
type schema struct {
	root   *jsonschema.Schema
	wanted map[*jsonschema.Schema]wanted
	// anchors are the dynamic anchors of each document, where the schema refers to one.
	anchors map[string]map[string]*jsonschema.Schema
}

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
	compiled := &schema{root: root}
	if err := compiled.prepare(c, doc); err != nil {
		return nil, err
	}
	return compiled, compiled.checkCost()
}

// schemaError is the error of a schema without the address that we made up for it.
func schemaError(err error) error {
	invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err)
	if !ok {
		return errors.New(strings.ReplaceAll(err.Error(), schemaURL, "the schema"))
	}
	cause, ok := errors.AsType[*jsonschema.ValidationError](invalid.Err)
	if !ok {
		return errors.New("is no valid JSON Schema")
	}
	first := firstLeaf(cause)
	text := violationText(first.ErrorKind, message.NewPrinter(language.English))
	if missing, ok := first.ErrorKind.(*kind.Required); ok {
		text = "must have " + strings.Join(missing.Missing, ", ")
	}
	at := strings.Replace(location(first.InstanceLocation), "data", "schema", 1)
	return fmt.Errorf("is no valid JSON Schema: %s: %s", at, text)
}

// firstLeaf is the first of the failures that no other failure explains.
func firstLeaf(err *jsonschema.ValidationError) *jsonschema.ValidationError {
	if len(err.Causes) == 0 {
		return err
	}
	first := firstLeaf(err.Causes[0])
	for _, cause := range err.Causes[1:] {
		if leaf := firstLeaf(cause); slices.Compare(leaf.InstanceLocation, first.InstanceLocation) < 0 {
			first = leaf
		}
	}
	return first
}

// errRemote is what any $ref to another document comes to.
var errRemote = errors.New("references to other documents are not followed")

type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errRemote }

// boundedPattern bounds regular expressions as filters do.
func boundedPattern(text string) (jsonschema.Regexp, error) {
	return filter.CompilePattern(text)
}

// validate returns the places where data does not fit: the first few, or data as a whole where they are not asked for. The error
// is ErrTooCostly or the context's: then it is unknown whether data fits.
func (s *schema) validate(ctx context.Context, data []byte, places bool) ([]Violation, error) {
	j := judging{schema: s, over: ctx.Done(), steps: stepsFor(len(data)), rest: time.Now().Add(judgeAtOnce)}
	doc, err := decodeExact(data)
	if err != nil {
		return []Violation{{"data", err.Error()}}, nil
	}
	fits, err := j.run(doc)
	switch {
	case errors.Is(err, errOver):
		return nil, ctx.Err()
	case fits || err != nil:
		return nil, err
	case !places:
		return []Violation{misfit}, nil
	}
	return s.violations(ctx, doc, stepsFor(len(data))), nil
}

// misfit is the violation of data as a whole.
var misfit = Violation{"data", "does not fit the schema"}

// violations looks again at data that does not fit, for what to show.
func (s *schema) violations(ctx context.Context, doc any, steps int) []Violation {
	j := judging{schema: s, over: ctx.Done(), steps: steps, explain: true, words: message.NewPrinter(language.English), rest: time.Now().Add(judgeAtOnce)}
	_, _ = j.run(doc) // as much as is found within the steps
	if len(j.found) == 0 {
		return []Violation{misfit}
	}
	slices.SortFunc(j.found, func(a, b Violation) int {
		return cmp.Or(strings.Compare(a.Location, b.Location), strings.Compare(a.Message, b.Message))
	})
	return j.found
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
