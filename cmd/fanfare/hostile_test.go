package main

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
)

// parameter is one in the path of a dialect's route.
var parameter = regexp.MustCompile(`\{[^}]*\}`)

// heavyDialects sends much to each route of the dialects: bodies, the fields that vendors' clients send, and queries.
func (d *deployment) heavyDialects(t *testing.T, key string) {
	t.Helper()
	const id, most = "0198c0de-7a3c-7000-8000-5f1e2d3c4b5a", 40 << 10
	for _, v := range vendors.New(vendors.DefaultConfig(), vendors.Config{}.Names(true), vendors.Deps{}) {
		for _, route := range v.Routes() {
			method, path, _ := strings.Cut(route, " ")
			o := &operation{ID: v.Name, Method: method, Path: parameter.ReplaceAllString(path, id)}
			query := url.Values{}
			for _, name := range []string{"filter", "sort", "select", "include", "skip", "top", "limit", "page", "filter[event_eq]", "filter[site_id_eq]"} {
				query.Set(name, strings.Repeat("a,", most/20))
			}
			d.costs(t, key, o, request{query: query}, "long queries")
			if method == http.MethodGet || method == http.MethodDelete {
				continue
			}
			for name, fill := range fillers {
				d.costs(t, key, o, request{body: []byte(fill(200 << 10))}, name)
			}
			for _, name := range []string{"a list of strings", "a map"} {
				for _, at := range []string{"url", "events", "eventTypes", "headers", "data", "attributes"} {
					body := inserted(t, []byte("{}"), []string{at}, fillers[name](200<<10))
					d.costs(t, key, o, request{body: body}, name+" at "+at)
				}
			}
		}
	}
}

// hostileFilters are expressions that are costly for those who read them carelessly, each as long as it may be or longer.
func hostileFilters(most int) map[string]string {
	long := func(part string) string { return strings.Repeat(part, most/len(part)) }
	return map[string]string{
		"negations":    long("!") + "isActive",
		"brackets":     long("(") + "1",
		"closed":       strings.Repeat("(", most/2) + "true" + strings.Repeat(")", most/2),
		"ands":         long("isActive==true&&") + "isActive==true",
		"event ands":   long(`event.type=="a"&&`) + `event.type=="a"`,
		"searches":     long(`name.Contains("a")||`) + `name.Contains("b")`,
		"members":      "event.data" + long(".a"),
		"indexes":      "event.data.a" + long("[0]"),
		"lists":        long("[") + strings.Repeat("]", most),
		"list of ones": "1 in [" + long("1,") + "1]",
		"macros":       strings.Repeat("event.data.a.all(x, ", most/20) + "true" + strings.Repeat(")", most/20),
		"a text":       `event.data.a == "` + long(`\"`) + `"`,
		"a number":     "event.data.a > " + long("9"),
		"a pattern":    `event.data.a.matches("` + long("(a*)*") + `")`,
		"conditions":   long("true?1:") + "0",
		"blanks":       long(" ") + "true",
	}
}

// heavyExpressions sends filters that are hard to read wherever one can be sent: to CEL, to Babelfor's language and to tails;
// and credentials that look like tokens.
func (d *deployment) heavyExpressions(t *testing.T, key string) {
	t.Helper()
	preview := &operation{ID: "preview", Method: http.MethodPost, Path: "/v1/subscriptions/preview"}
	list := &operation{ID: "babelfor", Method: http.MethodGet, Path: vendorLists["babelfor"]}
	tail := &operation{ID: "tail", Method: http.MethodGet, Path: "/v1/tail"}
	for _, size := range []int{1900, 4000, 200 << 10} {
		for name, text := range hostileFilters(size) {
			d.costs(t, key, preview, request{body: map[string]any{"event_types": []string{"*"}, "filter": text}}, name)
			if size < 10<<10 {
				d.costs(t, key, list, request{query: url.Values{"filter": {text}}}, name)
				d.costs(t, key, tail, request{query: url.Values{"subscription": {text}, "state": {text}, "event_type": {text}}}, name)
			}
		}
	}
	keys := &operation{ID: "keys", Method: http.MethodGet, Path: "/v1/keys"}
	for name, credential := range map[string]string{
		"a token of dots":      strings.Repeat(".", 40<<10),
		"a token of a part":    "eyJhbGciOiJSUzI1NiJ9." + strings.Repeat("A", 40<<10) + ".AA",
		"a token of a head":    strings.Repeat("eyJ", 13<<10) + ".e30.AA",
		"a token of nestings":  "eyJ" + strings.Repeat("W1tb", 10<<10) + ".e30.AA",
		"a key that is longer": "ff_" + strings.Repeat("a", 40<<10),
	} {
		d.costs(t, credential, keys, request{}, name)
	}
}
