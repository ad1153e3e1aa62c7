package subscriptions_test

import (
	"fmt"

	"github.com/fanfarehq/fanfare/subscriptions"
)

func ExampleCompileFilter() {
	filter, err := subscriptions.CompileFilter(`event.data.total > 100 && "vip" in event.data.customer.tags`)
	if err != nil {
		fmt.Println(err)
		return
	}
	matched, err := filter.Matches(&subscriptions.MatchEvent{
		Type: "order.created", Data: []byte(`{"total": 120.5, "customer": {"tags": ["vip"]}}`),
	})
	fmt.Println(matched, err)

	_, err = subscriptions.CompileFilter(`event.datum.total > 100`)
	fmt.Println(err)
	// Output:
	// true <nil>
	// line 1, column 6: undefined field 'datum'
}

func ExampleFilter_Seen() {
	filter, err := subscriptions.CompileFilter(`event.data.total > 100 && event.data.status == "paid"`)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(filter.Seen(&subscriptions.MatchEvent{Data: []byte(`{"total": 90}`)}))
	// Output: data.total was 90, data.status is missing
}
