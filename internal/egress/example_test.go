package egress_test

import (
	"fmt"

	"github.com/fanfarehq/fanfare/internal/egress"
)

func ExamplePolicy_CheckURL() {
	var strict egress.Policy
	for _, raw := range []string{"https://Bücher.example/hooks", "http://①②⑦.⓪.⓪.①/", "https://user@example.com/"} {
		u, err := strict.CheckURL(raw)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(u)
	}
	// Output:
	// https://xn--bcher-kva.example/hooks
	// address 127.0.0.1: destination is not allowed
	// must not hold a user name or password
}
