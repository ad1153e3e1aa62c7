package jetstream_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// stressCount is how often Watermill's stress test runs its suite at once. Its default, ten, takes minutes with the race detector.
const stressCount = "STRESS_TEST_COUNT"

func TestMain(m *testing.M) {
	if os.Getenv(brokerDir) != "" {
		serve()
		return
	}
	if os.Getenv(stressCount) == "" {
		_ = os.Setenv(stressCount, "3")
	}
	// A server that is stopped amid an atomic batch leaves the store that it staged the batch in running.
	const server = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(server+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(server+".(*msgBlock).flushLoop"),
		goleak.IgnoreAnyFunction(server+"/ats.Register.func1"),
	)
}
