package filter_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

const orderData = `{
	"total": 90, "price": 12.5, "count": 3, "big": 12345678901234567, "huge": 18446744073709551615,
	"status": "paid", "customer": {"country": "NL", "tags": ["vip", "new"]}, "active": true, "none": null,
	"items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}, {"sku": "c", "n": 3}], "email": "ann@example.com",
	"when": "2026-11-20T10:00:00Z"
}`

func orderEvent() *event.Event {
	return &event.Event{
		Tenant: "acme", Type: "order.created", ID: "evt_17", Time: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC),
		Data: []byte(orderData), ResourceIDs: []string{"123"}, Changed: []string{"status", "total"},
	}
}

// input is an event as filters read it, with its data not yet decoded.
func input(e *event.Event) *filter.Input { return &filter.Input{Event: e} }

func TestMatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		source string
		want   bool
	}{
		{`event.data.total > 100.0`, false},
		{`event.data.total > 100`, false},
		{`event.data.total >= 90`, true},
		{`event.data.total == 90 && event.data.total == 90.0`, true},
		{`event.data.total * 2 == 180`, true},
		{`2 * event.data.price == 25`, true},
		{`event.data.total / 4 == 22.5`, true},
		{`event.data.total + 10 > 99.5`, true},
		{`event.data.total - event.data.price == 77.5`, true},
		{`event.data.count % 2 == 1`, true},
		{`-event.data.count == -3`, true},
		{`event.data.big == 12345678901234567`, true},
		{`event.data.big == 12345678901234568`, false},
		{`event.data.huge > event.data.big`, true},
		{`event.data.count in [1, 2, 3]`, true},
		{`event.data.count in [1.0, 2.0]`, false},
		{`event.data.status in ["paid", "open"]`, true},
		{`!(event.data.status in ["open"])`, true},
		{`"vip" in event.data.customer.tags`, true},
		{`"country" in event.data.customer`, true},
		{`event.data.customer["country"] == "NL"`, true},
		{`event.data.customer.tags[1] == "new"`, true},
		{`event.data.items[event.data.count - 1].sku == "c"`, true},
		{`has(event.data.customer.country)`, true},
		{`has(event.data.customer.zip)`, false},
		{`has(event.data)`, true},
		{`event.data.none == null`, true},
		{`event.data.active == true ? true : false`, true},
		{`event.data.items.exists(i, i.sku == "b" && i.n == 2)`, true},
		{`event.data.items.all(i, i.n > 1)`, false},
		{`event.data.items.exists_one(i, i.n == 1)`, true},
		{`event.data.customer.exists(k, k == "country")`, true},
		{`event.data.items.exists(i, event.data.customer.tags.exists(t, t == "vip" && i.n == 3))`, true},
		{`size(event.data.items) == 3 && event.data.status.size() == 4`, true},
		{`event.data.status.startsWith("pa") && event.data.status.endsWith("id") && event.data.status.contains("ai")`, true},
		{`event.data.email.matches("^[^@]+@example\\.com$")`, true},
		{`event.data.status + "!" == "paid!"`, true},
		{`int(event.data.total) == 90 && double("1.5") == 1.5 && string(event.data.count) == "3"`, true},
		{`event.type == "order.created" && event.id == "evt_17"`, true},
		{`event.type.startsWith("order.")`, true},
		{`"status" in event.changed && "123" in event.resource_ids`, true},
		{`event.changed == ["status", "total"]`, true},
		{`event.time > timestamp("2026-01-01T00:00:00Z")`, true},
		{`event.time.getHours() == 10 && event.time.getDayOfWeek() == 5`, true},
		{`event.time - timestamp(event.data.when) < duration("1h")`, true},
		{`type(event.data.status) == string`, true},
		{`event.data.customer == event.data.customer`, true},
		{`event.data.items != event.data.customer.tags`, true},
		{`event.data.missing == 1 || event.data.total == 90`, true},
		{`event.data.status == 1`, false},
		{`event.data.status != "paid"`, false},
	}
	for _, tt := range tests {
		f, err := filter.Compile(tt.source)
		if err != nil {
			t.Errorf("compile %s: %v", tt.source, err)
			continue
		}
		got, err := f.Matches(input(orderEvent()))
		if err != nil || got != tt.want {
			t.Errorf("%s: got %t, %v; want %t", tt.source, got, err, tt.want)
		}
	}
}

func TestErrorsAtMatchTimeAreNoMatch(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`event.data.missing > 1`:                   "no such key: missing",
		`event.data.status > 1`:                    "no such overload",
		`event.data.items[7].n == 1`:               "index out of bounds",
		`event.data.total.deeper == 1`:             "no such key: deeper",
		`event.data.count / 0 == 1`:                "", // a double: infinity, no error
		`int(event.data.count) / 0 == 1`:           "divi",
		`event.data.status && true`:                "no such overload",
		`event.data.items + event.data.items == 1`: "lists cannot be added",
	} {
		f, err := filter.Compile(source)
		if err != nil {
			t.Errorf("compile %s: %v", source, err)
			continue
		}
		matched, err := f.Matches(input(orderEvent()))
		if matched {
			t.Errorf("%s: matched", source)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got error %v, want %q", source, err, want)
		}
	}
}

func TestRefusedOnSave(t *testing.T) {
	t.Parallel()
	nested := strings.Repeat("event.data.items.all(a, ", 3) + "true" + strings.Repeat(")", 3)
	tests := []struct{ name, source, want string }{
		{"empty", " ", "is empty"},
		{"syntax", "event.data.total >", "line 1, column"},
		{"second line", "true &&\n  event.datum == 1", "line 2, column 8: undefined field 'datum'"},
		{"unknown variable", "order.total > 1", "line 1, column 1: undeclared reference to 'order'"},
		{"not boolean", "event.data.total", "must be boolean, but is dyn"},
		{"a number", "1 + 1", "must be boolean, but is int"},
		{"whole event", "event == event", "event is read by its fields"},
		{"map", "event.data.items.map(i, i.n) == [1]", "map and filter make lists"},
		{"filter", "size(event.data.items.filter(i, i.n > 1)) > 1", "map and filter make lists"},
		{"map literal", `{"a": 1}["a"] == 1`, "maps and messages cannot be made"},
		{"message", `google.protobuf.Int64Value{value: 1} == 1`, "maps and messages cannot be made"},
		{"bytes", `bytes(event.id) == b"x"`, "the function bytes is not available"},
		{"zone", `event.time.getHours("Europe/Amsterdam") == 1`, "time zones are not available"},
		{"pattern from data", `event.id.matches(event.data.pattern)`, "must be a literal"},
		{"bad pattern", `event.id.matches("(")`, "missing closing )"},
		{"large pattern", `event.id.matches("(a{1,100}){1,10}")`, "the pattern is too large"},
		{"pattern that unfolds to 600 MB", `event.id.matches("(` + strings.Repeat("a", 3000) + `){1000}")`, "the pattern is too large"},
		{"bad constant", `event.time > timestamp("yesterday")`, "line 1, column"},
		{"nested loops", nested, "may cost too much"},
		{"loop over patterns", `event.data.items.all(i, i.matches("(a|b)*c{20}"))`, "may cost too much"},
		{"too long", `event.id == "` + strings.Repeat("x", filter.MaxSource) + `"`, "longer than"},
		{"too deep", strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500), "nested too deeply"},
		{"negations", strings.Repeat("!", 4000) + "true", "nested too deeply"},
		{"minus", strings.Repeat("-", 4000) + "1 == 1", "nested too deeply"},
		{"conditionals", strings.Repeat("true ? ", 500) + "true" + strings.Repeat(": true", 500), ""},
		{"many nodes", strings.Repeat("true || ", 500) + "true", "node"},
	}
	for _, tt := range tests {
		_, err := filter.Compile(tt.source)
		var fe *filter.Error
		if !errors.As(err, &fe) {
			t.Errorf("%s: got %v, want a Error", tt.name, err)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, err, tt.want)
		}
	}
}

// hostile are filters that pass the estimate and meet an event made to hurt them.
func hostile() []string {
	return []string{
		`event.data.list.all(x, x >= 0)`,
		`event.data.list.all(x, event.data.list.all(y, x == x))`,
		`event.data.list.exists(x, event.data.object[string(x)] == 2)`,
		`event.data.text.contains("yyyyyyyyyyyyyyyyz") || event.data.text.contains(event.data.text)`,
		strings.Repeat(`event.data.text.contains("yyyyyyyyyyyyyyyyz") || `, 50) + "false",
		`event.data.text + event.data.text == "x"`,
		`event.data.list.exists(x, event.data.text + "a" == "b")`,
		`event.data.list.exists(x, string(x) == "b")`,
		`event.data.list.exists(x, [x, x, x, x, x, x, x, x] == [1])`,
		`event.data.list == event.data.list`,
		`event.data == event.data`,
		`event.data.list in [event.data.list, event.data.list]`,
		`-1 in event.data.list`,
		`event.data.text.matches("(x+x+)+y")`,
		`event.data.list.exists(x, x * 1.5 == -1.0)`,
		`event.data.object.exists(k, k == "none")`,
		`event.data.list.exists(x, event.data.missing == x)`,
		`timestamp(event.data.text) == event.time`,
		`int(event.data.text) == 1`,
		`event.data.list.exists(x, size(event.data.text) == 0)`,
		`event.data.list.exists(x, event.data.text < event.data.text2)`,
		`event.data.list.exists(x, event.data.text == event.data.text2)`,
		// Lists of the event itself, which are made once.
		strings.Repeat(`size(event.changed) == 1 || `, 120) + "false",
		`event.data.list.exists(x, event.changed[0] == "q")`,
		`event.data.list.exists(x, "q" in event.resource_ids)`,
		`event.data.list.exists(x, event.time < event.time)`,
		// Keys that begin alike, or are alike.
		`event.data.list.exists(x, event.data.long == event.data.alike && x == 2)`,
		`event.data.list.exists(x, event.data.long[event.data.key] == 2)`,
		`event.data.list.exists(x, event.data.key in event.data.long && x == 2)`,
		// Errors, which hold no more than a line.
		`event.data.list.exists(x, event.data.list[event.data.object] == 1)`,
		`event.data.list.exists(x, event.data.object[event.data.list] == 1)`,
		`event.data.list.exists(x, event.data.object[event.data.text] == 1)`,
		`event.data.list.exists(x, !event.data.text)`,
		`event.data.list.exists(x, event.data.text ? true : false)`,
		`event.data.list.exists(x, x.matches("a"))`,
		`event.data.list.exists(x, bool(event.data.text))`,
		`event.data.list.exists(x, timestamp(event.data.control) == event.time)`,
		`event.data.list.exists(x, event.time + duration("1s") == event.time)`,
		// Patterns that would remember every place of the text.
		`event.data.word.matches("(\\pL?)*z")`,
		`event.data.word.matches("(x?x?x?x?x?)*zz$")`,
		`event.data.list.exists(x, event.id.matches("(\\pL?\\pL?\\pL?)*zz"))`,
	}
}

func hostileEvent() *event.Event {
	e := orderEvent()
	var object strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&object, `"key%d": 1,`, i)
	}
	text, key := strings.Repeat("x", 50_000), strings.Repeat("k", 20_000)
	e.Data = fmt.Appendf(nil, `{"list": [%s1], "text": "%s", "text2": "%s", "object": {%s"z": 0}, "long": {"%s": 1}, "alike": {"%s": 1}, "key": "%s",
		"control": "%s", "word": "%s"}`,
		strings.Repeat("1,", 10_000), text, text, object.String(), key, key, key, strings.Repeat(`\u0001`, 64), text[:4000])
	e.Changed, e.ResourceIDs = nil, nil
	for i := range 100 {
		e.Changed = append(e.Changed, fmt.Sprintf("%0256d", i))
		e.ResourceIDs = append(e.ResourceIDs, fmt.Sprintf("%0256d", i))
	}
	return e
}

// decoded is an event as filters read it after another filter has decoded its data.
func decoded(tb testing.TB, e *event.Event) *filter.Input {
	tb.Helper()
	f, err := filter.Compile("has(event.data.list)")
	if err != nil {
		tb.Fatal(err)
	}
	in := input(e)
	if _, err := f.Matches(in); err != nil {
		tb.Fatal(err)
	}
	return in
}

// An accepted filter stays within its memory for every event. Decoding the event's data, once, is not
// counted. This test is not parallel, because it reads what the whole process allocated.
func TestMemory(t *testing.T) {
	in := decoded(t, hostileEvent())
	for _, source := range hostile() {
		f, err := filter.Compile(source)
		if err != nil {
			t.Errorf("compile %s: %v", source, err)
			continue
		}
		least := uint64(math.MaxUint64) // of a few: pools may be emptied at any time
		for range 10 {
			least = min(least, allocated(func() { _, _ = f.Matches(in) }))
		}
		most := uint64(64 << 10)
		if raceEnabled {
			most = 8 << 20
		}
		if least > most {
			t.Errorf("%s: an evaluation allocates %d bytes", source, least)
		}
	}
}

// allocated returns how many bytes the process allocates meanwhile.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Refusing a filter takes little memory either. This test is not parallel, as the one before.
func TestCompileMemory(t *testing.T) {
	for _, source := range []string{
		`event.id.matches("(` + strings.Repeat("a", 3000) + `){1000}")`,
		`event.id.matches("(` + strings.Repeat(`\\pL`, 900) + `){1000}")`,
		`event.id.matches("(` + strings.Repeat("[^a]", 900) + `){999}")`,
		strings.Repeat(`event.id.matches("(?i)[\\pL\\pN]{400}") || `, 90) + "true",
		strings.Repeat("event.data.list.all(x, x == 1) || ", 110) + "true",
		strings.Repeat("event.data.list.exists_one(x, x == 1) || ", 90) + "true",
		strings.Repeat("event.data.list.map(x,", 60) + "1" + strings.Repeat(")", 60) + " == 1",
		strings.Repeat("[", 60) + strings.Repeat("]", 60) + " == 1",
		strings.Repeat("1 < ", 1000) + "1",
		strings.Repeat("a.", 2000) + "b",
		strings.Repeat("$", 4000),
	} {
		var err error
		got := allocated(func() { _, err = filter.Compile(source) }) >> 20
		if err == nil || got > 128 { // half of that without the race detector
			t.Errorf("%.60s: %v after %d MiB", source, err, got)
		}
	}
}

func BenchmarkHostile(b *testing.B) {
	in := decoded(b, hostileEvent())
	for i, source := range hostile() {
		f, err := filter.Compile(source)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(i), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Matches(in)
			}
		})
	}
}

func BenchmarkEvaluate(b *testing.B) {
	f, err := filter.Compile(`event.data.total > 100.0 || event.data.status == "paid"`)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("evaluate", func(b *testing.B) {
		in := input(orderEvent())
		b.ReportAllocs()
		for b.Loop() {
			_, _ = f.Matches(in)
		}
	})
	b.Run("decode and evaluate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = f.Matches(input(orderEvent()))
		}
	})
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = filter.Compile(`event.data.total > 100.0 || event.data.status == "paid"`)
		}
	})
}
