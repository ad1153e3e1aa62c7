package filter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

// For every source and every data: no panic, and errors that state a place.
func FuzzFilter(f *testing.F) {
	for _, source := range hostile() {
		f.Add(source, `{"list": [1, 2], "text": "a", "text2": "b", "object": {"a": 1}}`)
	}
	f.Add(`event.data.total > 100.0 && event.type in ["a", "b"]`, orderData)
	f.Add("event.data.items.exists_one(i, i.n % 2 == 1) ? has(event.data.a) : !true", `[]`)
	f.Add("\x00(((", "{")
	f.Fuzz(func(t *testing.T, source, data string) {
		compiled, err := filter.Compile(source)
		if err != nil {
			var fe *filter.Error
			if !errors.As(err, &fe) || fe.Message == "" {
				t.Fatalf("compile %q: %v is not an Error", source, err)
			}
			return
		}
		e := orderEvent()
		e.Data = []byte(data)
		in := input(e)
		first, firstErr := compiled.Matches(in)
		second, secondErr := compiled.Matches(in)
		if first != second || (firstErr == nil) != (secondErr == nil) {
			t.Errorf("%q: %t, %v, then %t, %v", source, first, firstErr, second, secondErr)
		}
		compiled.Seen(in)
	})
}

// agreeFor is how long TestAgreesWithCEL compares random expressions.
const agreeFor = 3 * time.Second

// The evaluation is Fanfare's own, so cel-go's is its oracle: both agree on random expressions. Each run draws new ones.
func TestAgreesWithCEL(t *testing.T) {
	t.Parallel()
	agrees := agreement(t)
	for begun := time.Now(); time.Since(begun) < agreeFor && !t.Failed(); {
		rapid.Check(t, agrees)
	}
}

// FuzzAgreesWithCEL is TestAgreesWithCEL guided by coverage, for `make fuzz`.
func FuzzAgreesWithCEL(f *testing.F) { f.Fuzz(rapid.MakeFuzz(agreement(f))) }

// agreement returns a property: a random filter gives the same for orderEvent here and in cel-go.
func agreement(tb testing.TB) func(*rapid.T) {
	tb.Helper()
	env, err := cel.NewEnv(
		cel.Variable("event", cel.MapType(cel.StringType, cel.DynType)), cel.CrossTypeNumericComparisons(true))
	if err != nil {
		tb.Fatal(err)
	}
	e := orderEvent()
	var data any
	if err := json.Unmarshal(e.Data, &data); err != nil {
		tb.Fatal(err)
	}
	vars := map[string]any{"event": map[string]any{
		"type": e.Type, "id": e.ID, "time": e.Time, "data": data, "changed": e.Changed, "resource_ids": e.ResourceIDs,
	}}
	return func(t *rapid.T) {
		source := boolean(3).Draw(t, "source")
		f, err := filter.Compile(source)
		if err != nil {
			t.Skip(err) // Too costly, or a type error, as random expressions have.
		}
		got, gotErr := f.Matches(input(e))
		checked, issues := env.Compile(source)
		if issues.Err() != nil {
			t.Skip(issues.Err())
		}
		program, err := env.Program(checked)
		if err != nil {
			t.Fatal(err)
		}
		out, _, wantErr := program.Eval(vars)
		want := wantErr == nil && out == types.True
		if got != want || (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%s: got %t, %v; cel-go has %v, %v", source, got, gotErr, out, wantErr)
		}
	}
}

func boolean(depth int) *rapid.Generator[string] {
	leaf := rapid.OneOf(
		rapid.SampledFrom([]string{"true", "false", "has(event.data.status)", "has(event.data.customer.zip)",
			"event.data.active", "event.data.status", "event.data.nothing"}),
		binary([]string{"==", "!=", "<", "<=", ">", ">="}, numeric(1), numeric(1)),
		binary([]string{"==", "!=", "<"}, text(), text()),
		binary([]string{"in"}, text(), rapid.SampledFrom([]string{`["NL", "paid"]`, "event.data.customer.tags",
			"event.changed", "event.data.customer", "event.data.total"})),
		binary([]string{"in"}, numeric(1), rapid.SampledFrom([]string{"[90, 3.0]", "event.data.items"})),
		rapid.Map(text(), func(s string) string { return s + `.contains("a")` }),
		rapid.Map(text(), func(s string) string { return s + `.matches("^[a-z]+$")` }),
		rapid.Just("event.data.items == event.data.customer.tags"),
		rapid.Just("event.data.customer == event.data.customer"),
		rapid.Just("event.time > timestamp(event.data.when)"),
	)
	if depth == 0 {
		return leaf
	}
	inner := rapid.Deferred(func() *rapid.Generator[string] { return boolean(depth - 1) })
	return rapid.OneOf(leaf,
		binary([]string{"&&", "||", "==", "!="}, inner, inner),
		rapid.Map(inner, func(s string) string { return "!(" + s + ")" }),
		rapid.Custom(func(t *rapid.T) string {
			return fmt.Sprintf("(%s ? %s : %s)", inner.Draw(t, "if"), inner.Draw(t, "then"), inner.Draw(t, "else"))
		}),
		rapid.Custom(func(t *rapid.T) string {
			over := rapid.SampledFrom([]string{"event.data.items", "event.data.customer", "event.data.customer.tags",
				"event.changed", "[1, 2]", "[]", "event.data.status"}).Draw(t, "over")
			macro := rapid.SampledFrom([]string{"all", "exists", "exists_one"}).Draw(t, "macro")
			body := rapid.OneOf(inner, rapid.SampledFrom([]string{
				"x == 1", `x == "vip"`, "x.n > 1.0", `x.sku == "b"`, "x.n", `has(x.sku) && x.sku < "c"`, "x > 1", "x",
			})).Draw(t, "body")
			return fmt.Sprintf("%s.%s(x, %s)", over, macro, body)
		}),
	)
}

func binary(operators []string, left, right *rapid.Generator[string]) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join([]string{
			"(" + left.Draw(t, "left"), rapid.SampledFrom(operators).Draw(t, "operator"), right.Draw(t, "right") + ")",
		}, " ")
	})
}

func numeric(depth int) *rapid.Generator[string] {
	leaf := rapid.SampledFrom([]string{"event.data.total", "event.data.price", "event.data.items[0].n", "event.data.items[9].n",
		"90.0", "2.5", "event.data.nothing", "event.data.status", "double(event.data.count)", "double(size(event.data.items))"})
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf, binary([]string{"+", "-", "*", "/"}, numeric(depth-1), numeric(depth-1)),
		rapid.Map(leaf, func(s string) string { return "-" + s }))
}

func text() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"event.type", "event.id", "event.data.status", `event.data.customer["country"]`,
		"event.data.customer.tags[0]", `"paid"`, `"NL"`, "event.data.status + \"x\"", "string(event.data.price)",
		"event.data.total", "event.data.none", "event.data.nothing.more"})
}
