package deliver_test

import (
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }
