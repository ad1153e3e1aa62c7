package filter_test

import (
	"fmt"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

func ExampleCompile() {
	f, err := filter.Compile(`event.data.total > 100 && "vip" in event.data.customer.tags`)
	if err != nil {
		fmt.Println(err)
		return
	}
	matched, err := f.Matches(&filter.Input{Event: &event.Event{
		Type: "order.created", Data: []byte(`{"total": 120.5, "customer": {"tags": ["vip"]}}`),
	}})
	fmt.Println(matched, err)

	_, err = filter.Compile(`event.datum.total > 100`)
	fmt.Println(err)
	// Output:
	// true <nil>
	// line 1, column 6: undefined field 'datum'
}

func ExampleFilter_Seen() {
	f, err := filter.Compile(`event.data.total > 100 && event.data.status == "paid"`)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Seen(&filter.Input{Event: &event.Event{Data: []byte(`{"total": 90}`)}}))
	// Output: data.total was 90, data.status is missing
}
