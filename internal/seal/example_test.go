package seal_test

import (
	"fmt"

	"github.com/fanfarehq/fanfare/internal/seal"
)

func Example() {
	ring, err := seal.ParseRing("2026:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		fmt.Println(err)
		return
	}
	row := []byte("subscriptions/7")
	sealed, err := ring.Seal([]byte("whsec_c2VjcmV0"), row)
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := ring.Open(sealed, row)
	fmt.Printf("%s %v\n", plain, err)
	_, err = ring.Open(sealed, []byte("subscriptions/8"))
	fmt.Println(err)
	// Output:
	// whsec_c2VjcmV0 <nil>
	// sealed bytes are damaged or belong elsewhere
}
