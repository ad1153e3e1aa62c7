package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// randomCallsEach is how many calls of each operation are made; FANFARE_TEST_CALLS is another number.
const randomCallsEach = 40

// Whatever is sent, the answer is no 5xx, is in the document, and is a problem if it is an error: send checks that.
func testRandomCalls(t *testing.T, d *deployment) {
	number := func(name string, otherwise uint64) uint64 {
		if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
			return n
		}
		return otherwise
	}
	calls, seed := number("FANFARE_TEST_CALLS", randomCallsEach), number("FANFARE_TEST_SEED", 1)
	t.Logf("FANFARE_TEST_SEED=%d", seed)
	// One tenant for all, so that lists meet what the other operations let in; but for replays, of which a tenant has few
	// under way.
	shared := unique("random-")
	sharedKey, operator := d.key(t, shared), d.operator(t, operatorScopes["all but keys"]...)
	d.each(t, func(t *testing.T, o *operation) {
		m := makerOf(t, o)
		if m == nil {
			return
		}
		tenant, key := shared, sharedKey
		if strings.Contains(o.Path, "replay") {
			tenant = unique("random-")
			key = d.key(t, tenant)
		}
		g := &generator{r: rand.New(rand.NewPCG(seed, uint64(len(o.ID)))), doc: d.doc, valid: m(t, d, tenant)}
		for i := range calls {
			as := key
			if o.ofInstallation() || g.r.IntN(8) == 0 {
				as = testAdminKey
			}
			if g.r.IntN(8) == 0 {
				as = operator
			}
			r := g.request(o)
			if as != key && !r.query.Has("tenant") && (as == testAdminKey || g.r.IntN(2) == 0) {
				r = r.asking("tenant", tenant)
			}
			d.send(t, as, o, r)
			if t.Failed() {
				t.Fatalf("call %d of %s", i, o)
			}
		}
	})
}

// generator makes calls, half of them nearly valid.
type generator struct {
	r     *rand.Rand
	doc   *document
	valid request
}

// nasty are texts that break what is put together carelessly.
var nasty = []string{
	"", " ", "'", `"`, "' OR '1'='1", "'; DROP TABLE events; --", "%", "_", `\`, "%27", "$1", "{{7*7}}", "${jndi:ldap://127.0.0.1/x}", "<svg onload=alert(1)>",
	"\r\nX-Injected: 1", "\x1b[31m", "\u0000", "\u202e", "\ufeff", "e\u0301", "\U0001f4a3", "null", "true", "-0", "NaN", "1e400", "9223372036854775808",
	"../../etc/passwd", "order.*", "*", ">", "order.>", "a..b", ".", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "294277-01-01T00:00:00Z",
	"2026-02-30T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "0000-01-01T00:00:00+23:59", "0000-01-01T00:00:00Z", "1969-07-20T20:17:40Z", "-2026-01-01T00:00:00Z", "2026-11-20T10:00:00+23:59", "0198c0de-7a3c-7000-8000-5f1e2d3c4b5a", "http://[::1]:99999/", "http://169.254.169.254/", "5s", "-5s", "9999999h", "1ns",
	"event.data.total > 100.0", "event.data.all(x, event.data.all(y, x == y))", "((((((((", "acme", "whsec_", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "order.created",
	strings.Repeat("a", 300), strings.Repeat("\u00e9", 5000),
}

// numbers lie at the edges of types.
var numbers = []any{0, -1, 1, 2, 50, 500, 501, 1 << 31, -(1 << 31), uint64(1) << 63, -1 << 63, 1e308, -0.5, 1e-300, 0.1}

func (g *generator) text() string { return nasty[g.r.IntN(len(nasty))] }

// request makes a call that is nearly valid, or is not.
func (g *generator) request(o *operation) request {
	careful := g.r.IntN(2) == 0
	r := request{path: g.valid.path, query: url.Values{}, header: http.Header{}}
	for _, name := range o.pathNames() {
		if !careful && g.r.IntN(2) == 0 {
			r = r.at(name, g.text())
		}
	}
	for _, p := range o.Parameters {
		if g.r.IntN(3) > 0 && !p.Required {
			continue
		}
		value := g.text()
		if careful {
			value = fmt.Sprint(g.value(p.Schema, 0, true))
		}
		switch p.In {
		case "query":
			if p.Name == "tenant" { // Another tenant's is a test of its own.
				continue
			}
			r.query.Add(p.Name, value)
		case "header":
			if !strings.ContainsAny(value, "\r\n\x00\x1b") {
				r.header[p.Name] = []string{value}
			}
		}
	}
	if o.RequestBody != nil || !careful && g.r.IntN(4) == 0 {
		r.body = g.body(o, careful, r.header)
	}
	return r
}

// body makes one of the media types that the operation takes, or anything.
func (g *generator) body(o *operation, careful bool, header http.Header) any {
	if !careful && g.r.IntN(3) == 0 {
		return []byte([]string{
			"", "{", "[]", "null", `"x"`, "[1,", `{"a":1}{"a":1}`, strings.Repeat("[", 20_000), "{\"a\":\"\xff\"}", `{"name":1,"name":2}`, "\xef\xbb\xbf{}", `{"a":1e999999}`,
			strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), `{"\u0000":"\u0000"}`, `{"type":"a.b","data":"\ud800"}`, "\x00\x01\x02",
		}[g.r.IntN(16)])
	}
	if o.RequestBody == nil {
		return map[string]any{"a": g.text()}
	}
	kinds := slices.Sorted(maps.Keys(o.RequestBody.Content))
	kind := kinds[g.r.IntN(len(kinds))]
	header.Set("Content-Type", kind)
	if !careful && g.r.IntN(6) == 0 {
		header.Set("Content-Type", g.text())
		header["Content-Type"][0] = strings.Map(func(c rune) rune { return max(c, ' ') }, header["Content-Type"][0])
	}
	value := g.value(o.RequestBody.Content[kind].Schema, 0, careful)
	if text, ok := value.(string); ok {
		return []byte(text)
	}
	base, isObject := g.valid.body.(map[string]any)
	made, ok := value.(map[string]any)
	if careful && isObject && ok && g.r.IntN(2) == 0 { // One field at a time, in a call that is valid but for it.
		for _, name := range slices.Sorted(maps.Keys(made)) {
			return request{body: base}.with(name, made[name]).body
		}
	}
	return value
}

// value makes one of a schema, or if it is careless one of any other type now and then.
func (g *generator) value(s *schema, depth int, careful bool) any {
	s = g.doc.resolve(s)
	if s == nil || depth > 6 || !careful && g.r.IntN(4) == 0 {
		return g.anything(depth)
	}
	if any := append(s.OneOf, s.AnyOf...); len(any) > 0 {
		return g.value(any[g.r.IntN(len(any))], depth, careful)
	}
	if len(s.Enum) > 0 && (careful || g.r.IntN(2) == 0) {
		return s.Enum[g.r.IntN(len(s.Enum))]
	}
	switch g.kind(s) {
	case "object":
		made := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) { // The seed alone is to say what is made.
			property := s.Properties[name]
			if name == "url" { // Nobody's real endpoint.
				made[name] = []any{"http://127.0.0.1:9/hook", "https://hooks.invalid/x", g.text()}[g.r.IntN(3)]
			} else if slices.Contains(s.Required, name) || g.r.IntN(3) == 0 {
				made[name] = g.value(property, depth+1, careful)
			}
		}
		delete(made, "tenant")
		if !careful && g.r.IntN(3) == 0 {
			made[g.text()] = g.anything(depth + 1)
		}
		return made
	case "array":
		list := make([]any, g.r.IntN(4))
		for i := range list {
			list[i] = g.value(s.Items, depth+1, careful)
		}
		return list
	case "integer", "number":
		if careful && s.Minimum != nil {
			return int(*s.Minimum) + g.r.IntN(100)
		}
		return numbers[g.r.IntN(len(numbers))]
	case "boolean":
		return g.r.IntN(2) == 0
	case "string":
		if careful && len(s.Examples) > 0 && g.r.IntN(2) == 0 {
			return s.Examples[0]
		}
		return g.text()
	}
	return g.anything(depth)
}

// kind is one of the types that a schema allows.
func (g *generator) kind(s *schema) string {
	switch t := s.Type.(type) {
	case string:
		return t // "null" too: anything makes it.
	case []any:
		if len(t) > 0 {
			return fmt.Sprint(t[g.r.IntN(len(t))])
		}
	}
	return ""
}

// anything is JSON of any type.
func (g *generator) anything(depth int) any {
	switch n := g.r.IntN(7); {
	case n == 0:
		return nil
	case n == 1:
		return g.r.IntN(2) == 0
	case n == 2:
		return numbers[g.r.IntN(len(numbers))]
	case n == 3 && depth < 6:
		return []any{g.anything(depth + 1), g.anything(depth + 1)}
	case n == 4 && depth < 6:
		return map[string]any{g.text(): g.anything(depth + 1)}
	}
	return g.text()
}
