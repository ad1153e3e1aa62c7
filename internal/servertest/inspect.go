package servertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Inspector holds the answers of APIs against their OpenAPI documents. Main puts one around the operations of every API
// that a package's tests make.
type Inspector struct {
	mu    sync.Mutex
	docs  map[*huma.OpenAPI]*answers
	wrong map[string]bool
}

// maxContradictions bounds the output: one mistake shows in thousands of answers.
const maxContradictions = 20

// Around returns a handler that answers as next does and has each answer checked.
func (i *Inspector) Around(doc *huma.OpenAPI, op *huma.Operation, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &seenAnswer{ResponseWriter: w}
		next.ServeHTTP(seen, r)
		if seen.status == 0 {
			seen.status = http.StatusOK // as net/http does for a handler that writes nothing
		}
		if err := i.answers(doc).check(op, r, seen); err != nil {
			i.complain(fmt.Sprintf("%s: %d contradicts the document: %v", op.OperationID, seen.status, err), r, seen)
		}
	})
}

// Contradictions returns how many different ones were seen.
func (i *Inspector) Contradictions() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.wrong)
}

func (i *Inspector) complain(what string, r *http.Request, seen *seenAnswer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.wrong == nil {
		i.wrong = map[string]bool{}
	}
	if len(i.wrong) < maxContradictions && !i.wrong[what] {
		fmt.Fprintf(os.Stderr, "servertest: %s\n\t%s %s\n\t%.1000s\n", what, r.Method, r.URL, seen.body.String())
	}
	i.wrong[what] = true
}

func (i *Inspector) answers(doc *huma.OpenAPI) *answers {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.docs == nil {
		i.docs = map[*huma.OpenAPI]*answers{}
	}
	if i.docs[doc] == nil {
		i.docs[doc] = newAnswers(doc)
	}
	return i.docs[doc]
}

// seenAnswer keeps a copy of the answer.
type seenAnswer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (s *seenAnswer) WriteHeader(status int) {
	if s.status == 0 && status >= http.StatusOK {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *seenAnswer) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if !s.streams() {
		s.body.Write(b)
	}
	return s.ResponseWriter.Write(b)
}

// streams reports whether the answer has no end that a document could describe.
func (s *seenAnswer) streams() bool {
	return strings.HasPrefix(s.Header().Get("Content-Type"), "text/event-stream")
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (s *seenAnswer) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// answers are those that one document describes.
type answers struct {
	err      error
	doc      map[string]any
	mu       sync.Mutex
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by the pointer to them
}

const documentURL = "test:///openapi.json"

func newAnswers(of *huma.OpenAPI) *answers {
	a := &answers{schemas: map[string]*jsonschema.Schema{}}
	text, err := api.Document(of)
	if err != nil {
		return &answers{err: err}
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return &answers{err: err}
	}
	a.doc, _ = doc.(map[string]any)
	a.compiler = jsonschema.NewCompiler()
	a.compiler.DefaultDraft(jsonschema.Draft2020)
	a.compiler.AssertFormat()
	a.err = a.compiler.AddResource(documentURL, doc)
	return a
}

// check returns how an answer differs from what the document says of the operation.
func (a *answers) check(op *huma.Operation, r *http.Request, seen *seenAnswer) error {
	if a.err != nil {
		return a.err
	}
	responses := pointer("paths", op.Path, strings.ToLower(op.Method), "responses")
	described, at := a.find(responses + pointer(strconv.Itoa(seen.status)))
	if described == nil && seen.status >= http.StatusBadRequest {
		described, at = a.find(responses + pointer("default"))
	}
	if described == nil {
		return errors.New("the status is not described")
	}
	if err := checkHeaders(described, seen); err != nil {
		return err
	}
	content, _ := described["content"].(map[string]any)
	media, _, err := mime.ParseMediaType(seen.Header().Get("Content-Type"))
	if err == nil && content[media] == nil && content["*/*"] != nil {
		return nil
	}
	switch {
	case len(content) == 0 && seen.body.Len() == 0, r.Method == http.MethodHead:
		return nil
	case len(content) == 0:
		return errors.New("no body is described")
	case err != nil || content[media] == nil:
		return fmt.Errorf("the content type %q is not described", seen.Header().Get("Content-Type"))
	case seen.streams() || !strings.HasSuffix(media, "json"):
		return nil
	}
	return a.checkBody(at+pointer("content", media, "schema"), seen.body.Bytes())
}

// checkHeaders wants each header that clients act on to be described where it is sent, and those of success to be sent where
// they are described.
func checkHeaders(described map[string]any, seen *seenAnswer) error {
	headers, _ := described["headers"].(map[string]any)
	is, said := map[string]bool{}, map[string]bool{}
	for name := range headers {
		said[http.CanonicalHeaderKey(name)] = true
	}
	for name := range seen.Header() {
		is[name] = true
	}
	for _, name := range []string{"Location", "Etag", "Retry-After", "Www-Authenticate"} {
		if is[name] && !said[name] {
			return fmt.Errorf("the header %s is not described", name)
		}
		if said[name] && !is[name] && seen.status < http.StatusBadRequest {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	return nil
}

func (a *answers) checkBody(at string, body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	schema := a.schemas[at]
	if schema == nil {
		if schema, err = a.compiler.Compile(documentURL + (&url.URL{Fragment: at}).String()); err != nil {
			return err
		}
		a.schemas[at] = schema
	}
	return schema.Validate(value)
}

// find returns what a pointer leads to, behind a reference.
func (a *answers) find(at string) (map[string]any, string) {
	var here any = a.doc
	for token := range strings.SplitSeq(at[1:], "/") {
		fields, _ := here.(map[string]any)
		here = fields[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
	}
	fields, _ := here.(map[string]any)
	if ref, ok := fields["$ref"].(string); ok {
		return a.find(strings.TrimPrefix(ref, "#"))
	}
	return fields, at
}

func pointer(tokens ...string) string {
	var b strings.Builder
	for _, token := range tokens {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	return b.String()
}

var _ io.Writer = (*seenAnswer)(nil)
