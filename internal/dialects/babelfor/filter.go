package babelfor

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kind is the type of a field and of a literal.
type kind string

const (
	textKind kind = "text"
	intKind  kind = "number"
	boolKind kind = "boolean"
	timeKind kind = "date"
	nullKind kind = "null"
)

// field is one property that filters and sorts may name. Get returns a string, int64, bool or time.Time,
// or nil for null.
type field[T any] struct {
	name string // as it is printed
	kind kind
	get  func(*T) any // nil where the field can be selected, and nothing else
	// costly says that rows do not have the field unless somebody asks for it. It can be filtered by, not sorted.
	costly bool
}

// fields are the properties of a row by their names in lower case: clients write IsActive and isActive.
type fields[T any] map[string]field[T]

// predicate says whether a row passes a filter.
type predicate[T any] func(*T) bool

const (
	maxFilterLength = 2048
	maxFilterDepth  = 20
)

// parseFilter reads a filter in the spelling of System.Linq.Dynamic.Core (IsActive == true && Name.Contains("x"))
// or of OData (isActive eq true and contains(name,'x')). An empty one passes everything.
// Costly says that it looks at a field that is.
func parseFilter[T any](src string, known fields[T]) (pass predicate[T], costly bool, err error) {
	if strings.TrimSpace(src) == "" {
		return func(*T) bool { return true }, false, nil
	}
	if len(src) > maxFilterLength {
		return nil, false, fmt.Errorf("filter: longer than %d characters", maxFilterLength)
	}
	tokens, err := lex(src)
	if err != nil {
		return nil, false, fmt.Errorf("filter: %w", err)
	}
	p := parser[T]{tokens: tokens, known: known}
	pass, err = p.or(0)
	if err == nil && p.peek().kind != endToken {
		err = p.unexpected("the end")
	}
	if err != nil {
		return nil, false, fmt.Errorf("filter: %w", err)
	}
	return pass, p.costly, nil
}

// parser is a recursive descent over the tokens: or, and, not, comparison.
type parser[T any] struct {
	tokens []token
	next   int
	known  fields[T]
	costly bool
}

func (p *parser[T]) peek() token { return p.tokens[p.next] }

func (p *parser[T]) take() token {
	tok := p.tokens[p.next]
	if tok.kind != endToken {
		p.next++
	}
	return tok
}

// accept takes the operator if it is next.
func (p *parser[T]) accept(sign string) bool {
	if tok := p.peek(); tok.kind != operatorToken || tok.text != sign {
		return false
	}
	p.next++
	return true
}

func (p *parser[T]) expect(sign string) error {
	if !p.accept(sign) {
		return p.unexpected(strconv.Quote(sign))
	}
	return nil
}

func (p *parser[T]) unexpected(wanted string) error {
	tok := p.peek()
	return fmt.Errorf("expected %s instead of %q at position %d", wanted, tok.text, tok.at+1)
}

func (p *parser[T]) or(depth int) (predicate[T], error) {
	left, err := p.and(depth)
	for err == nil && p.accept("||") {
		var right predicate[T]
		if right, err = p.and(depth); err == nil {
			a, b := left, right
			left = func(row *T) bool { return a(row) || b(row) }
		}
	}
	return left, err
}

func (p *parser[T]) and(depth int) (predicate[T], error) {
	left, err := p.not(depth)
	for err == nil && p.accept("&&") {
		var right predicate[T]
		if right, err = p.not(depth); err == nil {
			a, b := left, right
			left = func(row *T) bool { return a(row) && b(row) }
		}
	}
	return left, err
}

func (p *parser[T]) not(depth int) (predicate[T], error) {
	if depth > maxFilterDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxFilterDepth)
	}
	if p.accept("!") {
		inner, err := p.not(depth + 1)
		if err != nil {
			return nil, err
		}
		return func(row *T) bool { return !inner(row) }, nil
	}
	if p.accept("(") {
		inner, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		return inner, p.expect(")")
	}
	return p.term()
}

// searches are the functions on text, by their names in lower case.
var searches = map[string]func(s, part string) bool{
	"contains":   strings.Contains,
	"startswith": strings.HasPrefix,
	"endswith":   strings.HasSuffix,
}

// term is a comparison, a search, or a boolean field alone.
func (p *parser[T]) term() (predicate[T], error) {
	tok := p.take()
	if tok.kind != nameToken {
		p.next = max(0, p.next-1)
		return nil, p.unexpected("a field")
	}
	if search, ok := searches[strings.ToLower(tok.text)]; ok && p.accept("(") {
		name := p.take()
		f, err := p.field(name)
		if err == nil {
			err = p.expect(",")
		}
		if err != nil {
			return nil, err
		}
		return p.search(f, search)
	}
	f, err := p.field(tok)
	if err != nil {
		return nil, err
	}
	if p.accept(".") {
		method := p.take()
		search, ok := searches[strings.ToLower(method.text)]
		if !ok {
			return nil, fmt.Errorf("unknown function %q at position %d", method.text, method.at+1)
		}
		if err := p.expect("("); err != nil {
			return nil, err
		}
		return p.search(f, search)
	}
	return p.comparison(f)
}

func (p *parser[T]) field(tok token) (field[T], error) {
	f, ok := p.known[strings.ToLower(tok.text)]
	if tok.kind != nameToken || !ok || f.get == nil {
		return field[T]{}, fmt.Errorf("unknown field %q at position %d", tok.text, tok.at+1)
	}
	p.costly = p.costly || f.costly
	return f, nil
}

// search reads the text and the closing bracket of a search in f.
func (p *parser[T]) search(f field[T], search func(s, part string) bool) (predicate[T], error) {
	part := p.take()
	if f.kind != textKind || part.kind != stringToken {
		return nil, fmt.Errorf("%s at position %d: only a text can be searched, for a text", f.name, part.at+1)
	}
	return func(row *T) bool {
		s, ok := f.get(row).(string)
		return ok && search(s, part.text)
	}, p.expect(")")
}

// comparison reads a sign and a literal; a boolean field may stand alone.
func (p *parser[T]) comparison(f field[T]) (predicate[T], error) {
	sign := p.peek()
	holds, ok := comparisons[sign.text]
	if sign.kind != operatorToken || !ok {
		if f.kind != boolKind {
			return nil, p.unexpected("a comparison")
		}
		return func(row *T) bool { return f.get(row) == true }, nil
	}
	p.next++
	literal := p.take()
	want, err := value(literal, f.kind)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", f.name, sign.text, err)
	}
	if want == nil || f.kind == boolKind {
		if sign.text != "==" && sign.text != "!=" {
			return nil, fmt.Errorf("%s %s at position %d: only == and != fit here", f.name, sign.text, sign.at+1)
		}
	}
	return func(row *T) bool {
		got := f.get(row)
		if got == nil || want == nil { // as in SQL over .NET: null equals null, and orders with nothing
			return sign.text == "==" && got == want || sign.text == "!=" && got != want
		}
		return holds(compare(got, want))
	}, nil
}

var comparisons = map[string]func(order int) bool{
	"==": func(order int) bool { return order == 0 },
	"!=": func(order int) bool { return order != 0 },
	">":  func(order int) bool { return order > 0 },
	">=": func(order int) bool { return order >= 0 },
	"<":  func(order int) bool { return order < 0 },
	"<=": func(order int) bool { return order <= 0 },
}

// value reads a literal as the kind of the field that it is compared with.
func value(tok token, want kind) (any, error) {
	if tok.kind == nameToken && strings.EqualFold(tok.text, "null") {
		return nil, nil //nolint:nilnil // null is a value here
	}
	switch {
	case want == textKind && tok.kind == stringToken:
		return tok.text, nil
	case want == intKind && tok.kind == numberToken:
		if n, err := strconv.ParseInt(tok.text, 10, 64); err == nil {
			return n, nil
		}
	case want == boolKind && tok.kind == nameToken:
		if b, err := strconv.ParseBool(strings.ToLower(tok.text)); err == nil && len(tok.text) > 1 {
			return b, nil
		}
	case want == timeKind && (tok.kind == stringToken || tok.kind == numberToken):
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
			if t, err := time.Parse(layout, tok.text); err == nil {
				return t, nil
			}
		}
	}
	return nil, fmt.Errorf("%q at position %d is no %s", tok.text, tok.at+1, want)
}

// compare orders two values of the same kind; false comes before true.
func compare(a, b any) int {
	switch a := a.(type) {
	case string:
		return cmp.Compare(a, b.(string))
	case int64:
		return cmp.Compare(a, b.(int64))
	case time.Time:
		return a.Compare(b.(time.Time))
	case bool:
		if a == b.(bool) {
			return 0
		} else if a {
			return 1
		}
	}
	return -1
}
