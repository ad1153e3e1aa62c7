package filter_test

import (
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

const numbers = `{
	"id": 1234567, "cents": 1250, "half": 0.5, "tiny": 1e-7, "minus": -3000000, "zero": -0.0, "trillion": 1e12,
	"even": 9007199254740992, "odd": 9007199254740993, "long": 9223372036854775807, "ulong": 18446744073709551615,
	"a": 1e400, "b": 2e400, "c": 10e399, "deep": 1e99999999999999999999, "dust": 1e-400, "speck": 2e-400,
	"x": 123456789012345678901234567890, "y": 123456789012345678901234567891, "minusx": -123456789012345678901234567890,
	"list": [9007199254740993, 1e400, {"n": 9007199254740993}]
}`

func TestNumbersInFilters(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]bool{
		`string(event.data.id) == "1234567"`:                       true,
		`string(event.data.trillion) == "1000000000000"`:           true,
		`string(event.data.minus) == "-3000000"`:                   true,
		`string(event.data.half) == "0.5"`:                         true,
		`string(event.data.tiny) == "1e-07"`:                       true,
		`string(event.data.odd) == "9007199254740993"`:             true,
		`string(event.data.x).endsWith("567890")`:                  true,
		`"order-" + string(event.data.id) == "order-1234567"`:      true,
		`event.data.even == 9007199254740993`:                      false,
		`9007199254740993 == event.data.even`:                      false,
		`event.data.even == 9007199254740992`:                      true,
		`event.data.even != 9007199254740993`:                      true,
		`event.data.even < 9007199254740993`:                       true,
		`event.data.even >= 9007199254740993`:                      false,
		`event.data.odd > 9007199254740992.0`:                      true,
		`event.data.odd <= 9007199254740992.0`:                     false,
		`event.data.odd == event.data.even`:                        false,
		`event.data.even in [9007199254740993]`:                    false,
		`event.data.odd in event.data.list`:                        true,
		`9007199254740992.0 in event.data.list`:                    false,
		`event.data.list == [9007199254740993, 1.0, 2]`:            false,
		`[event.data.odd] == [9007199254740992.0]`:                 false,
		`[event.data.id] == [1234567]`:                             true,
		`event.data.list[2] == event.data.list[2]`:                 true,
		`event.data.list.exists(n, n == 9007199254740993)`:         true,
		`event.data.list.exists(n, n == 9007199254740992.0)`:       false,
		`event.data.long == 9223372036854775808.0`:                 false,
		`event.data.ulong == 18446744073709551616.0`:               false,
		`event.data.ulong == 18446744073709551615u`:                true,
		`event.data.long < event.data.ulong`:                       true,
		`event.data.zero == 0`:                                     true,
		`event.data.a == event.data.b`:                             false,
		`event.data.a < event.data.b`:                              true,
		`event.data.a == event.data.c`:                             true,
		`event.data.a > 1e308`:                                     true,
		`event.data.a > 9223372036854775807`:                       true,
		`event.data.deep > event.data.b`:                           true,
		`event.data.dust == event.data.speck`:                      false,
		`event.data.dust == 0`:                                     false,
		`event.data.dust > 0 && event.data.dust < event.data.tiny`: true,
		`event.data.x == event.data.y`:                             false,
		`event.data.x < event.data.y && event.data.minusx < 0`:     true,
		`event.data.x > event.data.ulong`:                          true,
		`event.data.x * 2 > 1e29`:                                  true,
		`-event.data.x < 0`:                                        true,
		`int(event.data.id) == 1234567`:                            true,
		`double(event.data.a) == double("inf")`:                    true,
		`event.data.a < double("inf")`:                             true,
		`double("nan") == double("nan")`:                           false,
	} {
		f, err := filter.Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := f.Matches(&filter.Input{Event: &event.Event{Data: []byte(numbers)}}); err != nil || got != want {
			t.Errorf("%s: got %v, %v", source, got, err)
		}
	}
}

// TestNumbersAsTexts: explain and ordering keys write a number as it was published.
func TestNumbersAsTexts(t *testing.T) {
	t.Parallel()
	f, err := filter.Compile(`event.data.id > 1 && event.data.x > 1 && event.data.a > 1`)
	if err != nil {
		t.Fatal(err)
	}
	seen := f.Seen(&filter.Input{Event: &event.Event{Data: []byte(numbers)}})
	for _, want := range []string{"data.id was 1234567,", "data.x was 123456789012345678901234567890,", "data.a was 1e400"} {
		if !strings.Contains(seen+",", want) {
			t.Errorf("got %q, want %q in it", seen, want)
		}
	}
	for source, want := range map[string]string{
		`event.data.x`: "123456789012345678901234567890", `event.data.a`: "1e400", `event.data.id`: "1234567",
	} {
		key, err := filter.CompileKey(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := key.Of(&filter.Input{Event: &event.Event{Data: []byte(numbers)}}); err != nil || got != want {
			t.Errorf("%s: got %q, %v", source, got, err)
		}
	}
}
