package event_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/event"
)

var kilobyte = []byte(`{"lines":[` + strings.Repeat(`{"sku":"abc-1234567","count":2,"price":17.25,"note":"to be wrapped"},`, 13) + `{"sku":"last"}]}`)

func BenchmarkEncode(b *testing.B) {
	e := golden["whole"]
	e.Data = kilobyte
	b.ReportAllocs()
	for b.Loop() {
		e.Encode()
	}
}

func BenchmarkDecode(b *testing.B) {
	e := golden["whole"]
	msg := e.Encode()
	w := event.Wire{Subject: e.Subject(), Seq: 1, At: accepted, MsgID: msg.UUID, Headers: maps.All(msg.Metadata), Data: kilobyte}
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := event.Decode(w); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	e := golden["whole"]
	e.Data = kilobyte
	b.ReportAllocs()
	for b.Loop() {
		e.Hash()
	}
}
