package embedded_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

// childDir is the environment variable that makes this program start a Postgres and wait to be killed.
const childDir = "FANFARE_EMBEDDED_CHILD"

// children are what this program does instead of testing, by the environment variable that names a directory.
var children = map[string]func(dir string) int{childDir: child}

func TestMain(m *testing.M) {
	for variable, child := range children {
		if dir := os.Getenv(variable); dir != "" {
			os.Exit(child(dir))
		}
	}
	goleak.VerifyTestMain(m)
}

func child(dir string) int {
	p, err := embedded.StartPostgres(context.Background(), embedded.PostgresConfig{Dir: dir, Throwaway: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(p.PID())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}
