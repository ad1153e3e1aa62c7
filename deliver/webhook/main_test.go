package webhook

import (
	"testing"

	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// must fails the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func allowLoopback(t testing.TB) egress.Policy {
	t.Helper()
	return must(egress.ParsePolicy("127.0.0.0/8"))(t)
}
