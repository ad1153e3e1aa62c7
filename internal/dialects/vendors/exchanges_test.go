package vendors_test

import (
	"bufio"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Recorded exchanges. A file of testdata is a conversation with one house: requests with the answers that the vendor's
// contract demands, to the byte. -update writes the answers anew, for a person to compare with the contract.
var update = flag.Bool("update", false, "write the answers of testdata anew")

func TestExchanges(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.http")
	if err != nil || len(files) < 4 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(file, "testdata/"), ".http"), func(t *testing.T) {
			t.Parallel()
			replay(t, file)
		})
	}
}

// exchange is a request and its answer, with the remarks before it.
type exchange struct {
	remarks  []string
	line     string // "POST /v1/hooks"
	header   []string
	body     string
	status   string
	answer   []string // headers
	answered string
}

func replay(t *testing.T, file string) {
	h := newHouse(t, func(h *house) { h.strict = strings.Contains(file, "strict") })
	n := newNames(h)
	var out strings.Builder
	for _, x := range parse(t, file) {
		got := h.send(n.request(t, x))
		x.status, x.answer, x.answered = strconv.Itoa(got.status), nil, n.normal(got.body)
		for _, name := range []string{"Allow", "Content-Type", "Location", "Retry-After", "Www-Authenticate"} {
			if value := got.header.Get(name); value != "" {
				x.answer = append(x.answer, name+": "+n.normal(value))
			}
		}
		if strings.HasPrefix(x.path(), "/v1/event-types") {
			x.answered = "..." // the native API's, which is not this test's
		}
		x.write(&out)
		if loc := got.header.Get("Cache-Control"); loc != "no-store" {
			t.Errorf("%s: Cache-Control %q", x.line, loc)
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	compare(t, string(must(os.ReadFile(file))(t)), out.String())
}

// compare shows the first lines that differ, with where they stand.
func compare(t *testing.T, want, got string) {
	t.Helper()
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	asked, shown := "", 0
	for i := range max(len(wants), len(gots)) {
		line := func(list []string) string {
			if i < len(list) {
				return list[i]
			}
			return "(nothing)"
		}
		if strings.HasPrefix(line(wants), ">>> ") {
			asked = line(wants)
		}
		if line(wants) != line(gots) && shown < 5 {
			t.Errorf("line %d, after %s\n got  %s\n want %s", i+1, asked, line(gots), line(wants))
			shown++
		}
	}
}

// parse reads a file: lines of remarks (#), ">>> METHOD /path", headers, an empty line, the body, "<<< status" and
// the answer in the same form. Only the requests matter here.
func parse(t *testing.T, file string) (all []*exchange) {
	t.Helper()
	f := must(os.Open(file))(t)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	var remarks, body []string
	part := "" // of the exchange: header, body, answer
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
			remarks, part = append(remarks, line), ""
		case strings.HasPrefix(line, ">>> "):
			all = append(all, &exchange{remarks: remarks, line: line[4:]})
			remarks, body, part = nil, nil, "header"
		case strings.HasPrefix(line, "<<<"):
			all[len(all)-1].body, part = strings.Join(body, "\n"), "answer"
		case part == "header" && line == "":
			part = "body"
		case part == "header":
			all[len(all)-1].header = append(all[len(all)-1].header, line)
		case part == "body":
			body = append(body, line)
		}
	}
	if err := lines.Err(); err != nil || part == "header" || part == "body" {
		t.Fatalf("%s: it ends within an exchange, %v", file, err)
	}
	return all
}

func (x *exchange) path() string {
	_, path, _ := strings.Cut(x.line, " ")
	return path
}

func (x *exchange) write(out *strings.Builder) {
	for _, remark := range x.remarks {
		fmt.Fprintln(out, remark)
	}
	fmt.Fprintln(out, ">>> "+x.line)
	for _, line := range x.header {
		fmt.Fprintln(out, line)
	}
	if x.body != "" {
		fmt.Fprintln(out, "\n"+x.body)
	}
	fmt.Fprintln(out, "<<< "+x.status)
	for _, line := range x.answer {
		fmt.Fprintln(out, line)
	}
	if x.answered != "" {
		fmt.Fprintln(out, "\n"+x.answered)
	}
	fmt.Fprintln(out)
}

// names stand in files for what differs from run to run: keys, ids, tokens, times, addresses.
type names struct {
	values map[string]string // by name
	found  map[string]string // names by value
	counts map[string]int
}

func newNames(h *house) *names {
	n := &names{values: map[string]string{}, found: map[string]string{}, counts: map[string]int{}}
	n.set("$base", h.url)
	n.set("$receiver", h.receiver.URL)
	id, key := h.key("acme", allScopes)
	n.set("$keyid", id)
	n.set("$key", key)
	_, reader := h.key("acme", `["subscriptions:read"]`)
	n.set("$reader", reader)
	_, writer := h.key("acme", `["subscriptions:write"]`)
	n.set("$writer", writer)
	_, other := h.key("globex", allScopes)
	n.set("$other", other)
	n.set("$admin", adminKey)
	n.set("$big", `{"name":"`+strings.Repeat("x", 1<<20)+`"}`)
	n.set("$deep", strings.Repeat(`{"a":`, 70)+"1"+strings.Repeat("}", 70))
	return n
}

func (n *names) set(name, value string) { n.values[name], n.found[value] = value, name }

// request makes the request of an exchange, with values in the place of names.
func (n *names) request(t *testing.T, x *exchange) *http.Request {
	t.Helper()
	method, path, _ := strings.Cut(n.filled(x.line), " ")
	req := must(http.NewRequestWithContext(t.Context(), method, n.values["$base"]+path, strings.NewReader(n.filled(x.body))))(t)
	for _, line := range x.header {
		name, value, _ := strings.Cut(n.filled(line), ": ")
		req.Header.Add(name, value)
	}
	return req
}

var nameForm = regexp.MustCompile(`\$[a-z]+[0-9]*`)

func (n *names) filled(text string) string {
	return nameForm.ReplaceAllStringFunc(text, func(name string) string {
		if value, ok := n.values[name]; ok {
			return value
		}
		return name
	})
}

// What is given a name when it first appears: the name, and the form, whose first group is the value.
var forms = []struct {
	name string
	form *regexp.Regexp
}{
	{"$uuid", regexp.MustCompile(`([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})`)},
	{"$token", regexp.MustCompile(`(fft_[A-Za-z0-9_-]{40,})`)},
	{"$event", regexp.MustCompile(`"eventId":([0-9]+)`)},
	{"$event", regexp.MustCompile(`"id":([0-9]+),"webhookSubscriptionId"`)},
}

var times = []struct {
	form   *regexp.Regexp
	layout string
}{
	{regexp.MustCompile(`"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"`), `"2006-01-02T15:04:05+00:00"`},
	{regexp.MustCompile(`"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ"`), `"2006-01-02T15:04:05.000Z"`},
	{regexp.MustCompile(`"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"`), `"2006-01-02T15:04:05Z"`},
}

// normal is an answer with names in the place of values.
func (n *names) normal(text string) string {
	for _, name := range []string{"$base", "$receiver", "$keyid"} {
		text = strings.ReplaceAll(text, n.values[name], name)
	}
	for _, f := range forms {
		for _, found := range f.form.FindAllStringSubmatch(text, -1) {
			if n.found[f.name+found[1]] == "" {
				n.counts[f.name]++
				name := f.name + strconv.Itoa(n.counts[f.name])
				n.values[name], n.found[f.name+found[1]] = found[1], name
			}
			text = strings.ReplaceAll(text, found[0], strings.Replace(found[0], found[1], n.found[f.name+found[1]], 1))
		}
	}
	for _, f := range times {
		text = f.form.ReplaceAllString(text, f.layout)
	}
	return text
}
