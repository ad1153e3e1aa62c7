package subscriptions_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// cpu is what f takes of a core.
func cpu(t *testing.T, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	who := syscall.RUSAGE_SELF
	if runtime.GOOS == "linux" {
		who = 1 // RUSAGE_THREAD
	}
	taken := func() time.Duration {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			t.Fatal(err)
		}
		return time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	before := taken()
	f()
	return taken() - before
}

func list(item string, bytes int) string {
	return "[" + strings.Repeat(item+",", bytes/(len(item)+1)) + item + "]"
}

// kinds is a list of objects of n kinds.
func kinds(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"type":"object","required":["kind"],"properties":{"kind":{"const":"k%d"},"f%d":{"type":"integer"}}}`, i, i))
	}
	return `{"properties":{"lines":{"items":{"oneOf":[` + strings.Join(all, ",") + `]}}}}`
}

func texts(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"c%d"`, i))
	}
	return strings.Join(all, ",")
}

// allocated is how much memory f takes, whether or not it is freed. Nothing else may run meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Judging costs in proportion to the data, whatever the schema: it ends with the first violations or is refused. Its steps are
// counted; memory is taken for what is judged and shown, not for all that does not fit.
func TestJudgingIsBounded(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	const large = 240 << 10
	nested := strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60)
	lists := strings.Repeat("[", 60) + `"x"` + strings.Repeat("]", 60)
	twice := `{"anyOf":[{"type":"object","properties":{"a":{"$ref":"#"}}},{"type":"object","required":["a"],"properties":{"a":{"$ref":"#"}}}]}`
	consts := `{"items":{"anyOf":[{"const":` + strings.ReplaceAll(texts(1000), ",", `},{"const":`) + `}]}}`
	for name, test := range map[string]struct {
		schema, data string
		want         string // fits, violated or costly
	}{
		"a union that fits":          {kinds(20), `{"lines":` + list(`{"kind":"k19","f19":12,"note":"as an order has them"}`, large) + `}`, "fits"},
		"a union violated":           {kinds(50), `{"lines":` + list("1", large) + `}`, "violated"},
		"an enum of countries":       {`{"items":{"enum":[` + texts(249) + `]}}`, list(`"c248"`, large), "fits"},
		"an enum violated":           {`{"items":{"enum":[` + texts(2000) + `]}}`, list(`"x"`, large), "violated"},
		"a recursion that doubles":   {twice, nested, "costly"},
		"a recursion through lists":  {`{"anyOf":[{"type":"integer"},{"type":"array","items":{"$ref":"#"}},{"type":"array","items":{"$ref":"#"},"maxItems":9}]}`, lists, "costly"},
		"a thousand constants":       {consts, list(`"c999"`, large), "costly"},
		"a thousand, violated":       {consts, list(`1`, large), "violated"},
		"items that are unique":      {`{"uniqueItems":true,"items":{"type":"number"}}`, "[" + counting(40_000) + "]", "fits"},
		"one item twice":             {`{"uniqueItems":true}`, "[" + counting(40_000) + ",0.0]", "violated"},
		"long numbers":               {`{"items":{"multipleOf":1}}`, list("1e400", large), "costly"},
		"a large pattern":            {`{"pattern":"^(a?){50}(a*)*[ab]{100}c$"}`, `"` + strings.Repeat("a", large) + `"`, "costly"},
		"a pattern of a blob":        {`{"pattern":"^[A-Za-z0-9+/]*={0,2}$"}`, `"` + strings.Repeat("QUJD", large/4) + `=="`, "fits"},
		"names that are long":        {`{"additionalProperties":false}`, `{"` + strings.Repeat("n", large) + `":1}`, "violated"},
		"many names":                 {`{"propertyNames":{"pattern":"^x"}}`, "{" + names(20_000) + "}", "violated"},
		"properties not looked at":   {`{"anyOf":[{"properties":{"n1":true}},true],"unevaluatedProperties":{"type":"integer"}}`, "{" + names(20_000) + "}", "fits"},
		"the schema of JSON Schema":  {`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, `{"properties":{"a":{"items":{"type":"string"}}}}`, "fits"},
		"a schema that is not valid": {`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, `{"properties":{"a":{"items":{"type":"text"}}}}`, "violated"},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // as above
			et := &subscriptions.EventType{Schema: []byte(test.schema)}
			if _, err := et.Validate(t.Context(), []byte("null")); err != nil { // compiles it
				t.Fatal(err)
			}
			var violations []subscriptions.Violation
			var err error
			took := allocated(func() { violations, err = et.Validate(t.Context(), []byte(test.data)) })
			got := "fits"
			switch {
			case errors.Is(err, subscriptions.ErrTooCostly):
				got = "costly"
			case err != nil:
				t.Error(err)
			case len(violations) > 0:
				got = "violated"
			}
			if got != test.want {
				t.Errorf("got %s %.300v, want %s", got, violations, test.want)
			}
			if len(violations) > 20 || len(fmt.Sprint(violations)) > 20<<10 {
				t.Errorf("%d violations of %d bytes are shown", len(violations), len(fmt.Sprint(violations)))
			}
			if most := uint64(256 << 20); took > most { // It took gigabytes when each failure was kept.
				t.Errorf("took %d MB for %d bytes, want %d MB at most", took>>20, len(test.data), most>>20)
			}
		})
	}
}

func counting(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String() + "-1"
}

func names(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"n%d":1,`, i)
	}
	return b.String() + `"last":1`
}

// A judging ends with the request that asked for it.
func TestJudgingSeesTheContextsEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	et := &subscriptions.EventType{Schema: []byte(`{"items":{"type":"integer"}}`)}
	if _, err := et.Validate(ctx, []byte(list("1", 100<<10))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
}

// A schema that costs too much whatever the data, or that leads into itself, is refused on save.
func TestUnboundedSchemasAreRefused(t *testing.T) {
	t.Parallel()
	doubling := []string{`"d0":{"type":"object"}`}
	for i := 1; i <= 22; i++ {
		doubling = append(doubling, fmt.Sprintf(`"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i, i-1, i-1))
	}
	for name, schema := range map[string]string{
		"doubling":  `{"$ref":"#/$defs/d22","$defs":{` + strings.Join(doubling, ",") + `}}`,
		"recursive": `{"$ref":"#"}`,
		"in turn":   `{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#"}]}}}`,
	} {
		et := &subscriptions.EventType{Schema: []byte(schema)}
		violations, err := et.Validate(t.Context(), []byte("{}"))
		if err != nil || len(violations) != 1 || !strings.Contains(violations[0].Message, "every event would cost too much") {
			t.Errorf("%s: got %v, %v", name, violations, err)
		}
	}
}

// A judging that takes long leaves the processor to others in between.
func TestALongJudgingRests(t *testing.T) {
	t.Parallel()
	et := &subscriptions.EventType{Schema: []byte(kinds(50))}
	data := []byte(`{"lines":` + list(`{"kind":"k49","f49":12}`, 240<<10) + `}`)
	began := time.Now()
	used := cpu(t, func() {
		if _, err := et.Validate(t.Context(), data); err != nil && !errors.Is(err, subscriptions.ErrTooCostly) {
			t.Error(err)
		}
	})
	if took := time.Since(began); took < used+20*time.Millisecond {
		t.Errorf("it took %s, with %s of a core", took, used)
	}
}
