package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What one request with 1 MB of a list, a map or a string may cost this process, the client included: CPU, all memory that is
// allocated, freed or not, and what is held at once.
const (
	mostCPU    = 200 * time.Millisecond
	mostMemory = 140 << 20
	mostHeld   = 50 << 20
)

// bounds are mostCPU and mostMemory, with what the race detector makes of them: code runs up to twenty times as long, and the
// process's own loops, whose CPU counts as well, run the longer beside it. Pools drop a part of what is given back to them, so
// more is allocated. What costs the square of its size still exceeds this by far: a hundred thousand items take 10^10 steps.
func bounds() (cpu time.Duration, memory int64) {
	if raceEnabled {
		return 40 * mostCPU, 2 * mostMemory
	}
	return 4 * mostCPU, mostMemory // a busy or slow machine
}

// TestCostIsInProportion sends much of each list, map and string of each operation. Nothing else runs in this process
// meanwhile, so that its CPU is that of the request.
func TestCostIsInProportion(t *testing.T) { //nolint:paralleltest // it measures the CPU of the process
	// The collector's work is counted with that of requests, and half of all at the usual setting.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	d := launch(t, 0)
	key := d.key(t, "acme")
	d.heavyDialects(t, key)
	d.heavyExpressions(t, key)
	for _, o := range d.doc.Operations {
		m := makerOf(t, o)
		if m == nil {
			continue
		}
		as := key
		if o.Scope == "admin" || strings.HasPrefix(o.Scope, "admin:") {
			as = testAdminKey
		}
		valid := m(t, d, "acme")
		d.heavyQueries(t, as, o, valid)
		if o.RequestBody == nil {
			continue
		}
		for kind, content := range o.RequestBody.Content {
			d.heavyBodies(t, as, o, kind, content, valid)
		}
	}
}

// bodySizes are tried until the body is not too large for the operation.
var bodySizes = []int{1 << 20, 250 << 10, 60 << 10}

func (d *deployment) heavyBodies(t *testing.T, key string, o *operation, kind string, content media, valid request) {
	t.Helper()
	body := valid.body
	if len(content.Example) > 0 {
		body = content.Example
	}
	base, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := request{path: valid.path, query: valid.query, header: http.Header{"Content-Type": {kind}}}
	sizes := bodySizes
	for _, at := range append(d.doc.places(content.Schema, nil, 0), []string{"unknown"}, []string{}) {
		for name, fill := range fillers {
			if (slices.Contains(at, anItem) || slices.Contains(at, aMember)) && !slices.Contains(fillsDeep, name) {
				continue
			}
			for len(sizes) > 0 {
				r.body = inserted(t, base, at, fill(sizes[0]-len(base)-1000))
				what := fmt.Sprintf("%s of %d bytes at %q", name, sizes[0], strings.Join(at, "."))
				if d.costs(t, key, o, r, what) != http.StatusRequestEntityTooLarge || len(sizes) == 1 {
					break
				}
				sizes = sizes[1:]
			}
		}
	}
	if strings.HasSuffix(kind, "ndjson") {
		r.body = bytes.Repeat([]byte("\n"), 1<<20)
		d.costs(t, key, o, r, "empty lines")
	}
}

// heavyQueries send as much in the query as the server takes.
func (d *deployment) heavyQueries(t *testing.T, key string, o *operation, valid request) {
	t.Helper()
	const most = 40 << 10
	for _, p := range o.Parameters {
		r := request{path: valid.path, query: maps.Clone(valid.query), body: valid.body, header: valid.header}
		if r.query == nil {
			r.query = url.Values{}
		}
		for name, values := range map[string][]string{
			"a long value": {strings.Repeat("a", most)}, "many values": slices.Repeat([]string{"a"}, most/(len(p.Name)+3)),
			"a list": {strings.Repeat("a,", most/4)},
		} {
			switch p.In {
			case "query":
				r.query[p.Name] = values
			case "header":
				r.header = http.Header{p.Name: values}
			case "path":
				r = r.at(p.Name, values[0][:min(len(values[0]), most/4)])
			}
			d.costs(t, key, o, r, name+" of "+p.Name)
		}
	}
}

// costs sends a request, ten times if need be: the cheapest one counts. On a busy machine the same work takes more of a core.
func (d *deployment) costs(t *testing.T, key string, o *operation, r request, what string) (status int) {
	t.Helper()
	target := d.at.API + o.Path
	for _, name := range o.pathNames() {
		target = strings.ReplaceAll(target, "{"+name+"}", url.PathEscape(r.path[name]))
	}
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	allowedCPU, allowedMemory := bounds()
	cpu, memory := time.Duration(-1), int64(-1)
	for range 10 {
		beforeCPU, beforeMemory := spent(t)
		status = d.ask(t, key, o.Method, target, r)
		afterCPU, afterMemory := spent(t)
		if status >= 500 {
			t.Errorf("%s with %s: %d", o, what, status)
		}
		if cpu < 0 || afterCPU-beforeCPU < cpu {
			cpu = afterCPU - beforeCPU
		}
		if memory < 0 || afterMemory-beforeMemory < memory {
			memory = afterMemory - beforeMemory
		}
		if cpu <= allowedCPU && memory <= allowedMemory {
			if memory > mostHeld {
				d.holds(t, o, what, func() { d.ask(t, key, o.Method, target, r) })
			}
			return status
		}
	}
	t.Errorf("%s with %s: %v of a core and %d MB, want %v and %d MB at most", o, what, cpu, memory>>20, allowedCPU, allowedMemory>>20)
	return status
}

// holds fails the test if a request makes the process hold too much at once, however often it is made: on a busy machine the
// collector may come late.
func (d *deployment) holds(t *testing.T, o *operation, what string, request func()) {
	t.Helper()
	least := held(request)
	for n := 1; n < 10 && least > mostHeld; n++ {
		least = min(least, held(request))
	}
	if least > mostHeld {
		t.Errorf("%s with %s: held %d MB at once, want %d MB at most", o, what, least>>20, mostHeld>>20)
	}
}

// held returns what a request makes the process hold at once. It is seen by a collector that runs at each twentieth of growth,
// and looked at each millisecond.
func held(request func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	heap := func() int64 {
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64())
	}
	runtime.GC()
	before, most := heap(), int64(0)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, heap()-before)
			case <-over:
				return
			}
		}
	}()
	request()
	close(over)
	<-ended
	return most
}

// ask sends a request and returns the answer's status, 413 where the connection ended: the body was not read.
func (d *deployment) ask(t *testing.T, key, method, target string, r request) (status int) {
	t.Helper()
	sent, isBytes := r.body.([]byte)
	if !isBytes && r.body != nil {
		var err error
		if sent, err = json.Marshal(r.body); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	maps.Copy(req.Header, r.header)
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := d.client.Do(req)
	if err != nil {
		return http.StatusRequestEntityTooLarge
	}
	defer resp.Body.Close()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	return resp.StatusCode
}

// spent is what the process has used: CPU, and memory whether or not it was freed.
func spent(t *testing.T) (time.Duration, int64) {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), int64(m.TotalAlloc)
}

// fillers make so many bytes of JSON.
var fillers = map[string]func(size int) json.RawMessage{
	"a string":            func(size int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("a", size) + `"`) },
	"a string of escapes": func(size int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat(`\u00e9`, size/6) + `"`) },
	"a list of numbers":   func(size int) json.RawMessage { return json.RawMessage("[" + strings.Repeat("1,", size/2) + "1]") },
	"a list of strings": func(size int) json.RawMessage {
		var b strings.Builder
		for i := 0; b.Len() < size-20; i++ {
			b.WriteString(`"s` + strconv.Itoa(i) + `",`)
		}
		return json.RawMessage("[" + b.String() + `"s"]`)
	},
	"a list of objects": func(size int) json.RawMessage {
		return json.RawMessage("[" + strings.Repeat(`{"a":1},`, size/8) + "{}]")
	},
	"a map": func(size int) json.RawMessage {
		var b strings.Builder
		for i := 0; b.Len() < size-20; i++ {
			b.WriteString(`"k` + strconv.Itoa(i) + `":"v",`)
		}
		return json.RawMessage("{" + b.String() + `"k":"v"}`)
	},
}

// fillsDeep are the fillers of places within lists and maps, of which there are many.
var fillsDeep = []string{"a string", "a map"}

// The parts of a place that lead into a list and into a map whose names are free.
const (
	anItem  = "[]"
	aMember = "{}"
)

// places are those of a body's schema that have a value.
func (d *document) places(s *schema, at []string, depth int) [][]string {
	if s = d.resolve(s); s == nil || depth > 3 {
		return nil
	}
	var all [][]string
	for _, one := range slices.Concat(s.OneOf, s.AnyOf) {
		all = append(all, d.places(one, at, depth+1)...)
	}
	for name, property := range s.Properties {
		below := append(slices.Clone(at), name)
		all = append(append(all, below), d.places(property, below, depth+1)...)
	}
	if s.Items != nil {
		below := append(slices.Clone(at), anItem)
		all = append(append(all, below), d.places(s.Items, below, depth+1)...)
	}
	if members := s.members(); members != nil {
		below := append(slices.Clone(at), aMember)
		all = append(append(all, below), d.places(members, below, depth+1)...)
	}
	return all
}

// members describes the values of a map; nil if it is none.
func (s *schema) members() *schema {
	if len(s.AdditionalProperties) == 0 || s.AdditionalProperties[0] != '{' {
		return nil
	}
	var of schema
	if json.Unmarshal(s.AdditionalProperties, &of) != nil {
		return nil
	}
	return &of
}

// inserted is a body with a value at a place.
func inserted(t *testing.T, base []byte, at []string, value json.RawMessage) []byte {
	t.Helper()
	if len(at) == 0 {
		return value
	}
	switch at[0] {
	case anItem:
		var list []json.RawMessage
		if json.Unmarshal(base, &list) != nil || len(list) == 0 {
			list = []json.RawMessage{nil}
		}
		return slices.Concat([]byte("["), inserted(t, list[0], at[1:], value), []byte("]"))
	case aMember:
		return slices.Concat([]byte(`{"k":`), inserted(t, nil, at[1:], value), []byte("}"))
	}
	body := map[string]json.RawMessage{}
	_ = json.Unmarshal(base, &body) // a list or nothing at all: then the field alone
	if body == nil {
		body = map[string]json.RawMessage{}
	}
	body[at[0]] = inserted(t, body[at[0]], at[1:], value)
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
