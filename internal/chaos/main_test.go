package chaos_test

import (
	"flag"
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

var (
	seed    = flag.Uint64("chaos.seed", 1, "the seed that the long form's plan follows from")
	minutes = flag.Int("chaos.minutes", 0, "how long the long form breaks things; 0 leaves it out")
	only    = flag.String("chaos.only", "", "the one breakage of the plan, such as \"stop deliver\"; empty: all")
)

func TestMain(m *testing.M) { servertest.Main(m) }
