package fanout_test

import (
	"slices"
	"testing"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
)

func TestEventsBetweenTwoPlaces(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	var places []uint64
	for i := range 200 {
		tenant := "acme"
		if i%4 == 3 {
			tenant = "acme-two"
		}
		seq := h.Publish("events."+tenant+".order.created", `{"n":1}`)
		if tenant == "acme" {
			places = append(places, seq)
		}
	}
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), places[80]); err != nil {
		t.Fatal(err)
	}
	want := slices.Delete(slices.Clone(places), 80, 81)
	for _, tt := range []struct{ first, last int }{{0, len(want) - 1}, {3, 3}, {10, 120}} {
		var got []uint64
		for e, err := range fanout.Between(t.Context(), fanout.NewReader(h.JS), "acme", want[tt.first], want[tt.last]) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Seq)
		}
		if !slices.Equal(got, want[tt.first:tt.last+1]) {
			t.Errorf("from place %d to %d: got %v, want %v", tt.first, tt.last, got, want[tt.first:tt.last+1])
		}
	}
	end := places[len(places)-1] + 1000
	for e, err := range fanout.Between(t.Context(), fanout.NewReader(h.JS), "acme", end, end+1) {
		t.Errorf("beyond the end there is %v, %v", e, err)
	}
}
