//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// stopOrphans ends what a killed process left running in the data directory, and then removes a pid file that
// names nobody: in a container its number may well be somebody else's by now, and Postgres would refuse to
// start. The caller holds the directory's lock, so whoever runs in there has lost its parent.
func stopOrphans(ctx context.Context, data string) error {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, fastShutdown}, {syscall.SIGQUIT, quickShutdown}, {syscall.SIGKILL, quickShutdown}} {
		pids, err := servers(data)
		if err != nil {
			return err
		}
		main, _ := readPidFile(data)
		for _, pid := range pids {
			// The main process ends its children in order; without it each is told.
			if pid == main || !slices.Contains(pids, main) {
				_ = syscall.Kill(pid, step.signal) // it may be gone already
			}
		}
		gone, err := awaitGone(ctx, data, step.wait)
		if err != nil {
			return err
		}
		if gone {
			return removePidFile(data)
		}
	}
	return errors.New("it does not end")
}

// awaitGone says whether within the time nobody works in the data directory any more.
func awaitGone(ctx context.Context, data string, wait time.Duration) (bool, error) {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(wait)
	for {
		pids, err := servers(data)
		if err != nil || len(pids) == 0 {
			return err == nil, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-deadline:
			return false, nil
		case <-look.C:
		}
	}
}

func removePidFile(data string) error {
	if err := os.Remove(filepath.Join(data, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a stale pid file: %w", err)
	}
	return nil
}
