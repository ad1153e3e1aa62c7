package servertest

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/fanfarehq/fanfare/internal/api"
)

// suite is the state of this test process: its one Postgres, started when the first test asks for it.
var suite struct {
	main  atomic.Bool // Main runs, so that somebody will stop the server
	start sync.Once
	pg    *cluster
	err   error

	answers Inspector // of the APIs that the tests make
}

// Main runs a package's tests, holds every answer of an API against its OpenAPI document, stops the Postgres that the tests
// shared, looks for goroutines left behind, and exits. It is all that a TestMain does:
//
//	func TestMain(m *testing.M) { servertest.Main(m) }
func Main(m *testing.M, options ...goleak.Option) {
	if args := os.Getenv(natsChild); args != "" {
		os.Exit(runNATS(args))
	}
	suite.main.Store(true)
	api.Inspect = suite.answers.Around
	goleak.VerifyTestMain(runner{m}, append(options, leftByWatermill)...)
}

// leftByWatermill is a goroutine that a Watermill router leaves behind if it is told to stop before its handlers begin: it
// waits for them.
var leftByWatermill = goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/message.(*Router).watchAllHandlersStopped.func1")

// runner runs the tests and cleans up after them.
type runner struct{ m *testing.M }

func (r runner) Run() int {
	code := r.m.Run()
	if n := suite.answers.Contradictions(); n > 0 {
		fmt.Fprintf(os.Stderr, "servertest: answers contradict their OpenAPI document in %d ways\n", n)
		code = max(code, 1)
	}
	if suite.pg == nil {
		return code
	}
	if err := suite.pg.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "servertest:", err)
		return max(code, 1)
	}
	return code
}
