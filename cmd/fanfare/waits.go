package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// warnAfter is when a start that waits for a dependency says so in the log, and warnEvery how often it repeats that.
	warnAfter = time.Second
	warnEvery = 10 * time.Second
)

// waits are the dependencies of a start, with the reason why each is still awaited.
type waits struct {
	log *slog.Logger

	mu      sync.Mutex
	reasons map[dependency]string // empty once it answers
}

func newWaits(log *slog.Logger) *waits { return &waits{log: log, reasons: map[dependency]string{}} }

// dependency is what a start waits for, and where the operator said that it is.
type dependency struct{ name, setting, address string }

// failed names the dependency's setting and address in an error.
func (d dependency) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s (%s): %w", d.setting, d.address, err)
}

// wait begins to wait for a dependency. The caller reports why each try failed, and calls over when it answers or is given up.
func (w *waits) wait(ctx context.Context, d dependency) (report func(error), over func(error)) {
	began := time.Now()
	w.set(d, "no answer yet")
	ctx, stop := context.WithCancel(ctx)
	warned := make(chan bool, 1)
	go func() { warned <- w.warn(ctx, d, began) }()
	report = func(err error) { w.set(d, err.Error()) }
	over = func(err error) {
		stop()
		said := <-warned
		if err != nil {
			report(err)
			return
		}
		w.set(d, "")
		if said {
			w.log.Info("dependency answers", "dependency", d.name, "waited", since(began))
		}
	}
	return report, over
}

// set keeps why a dependency is awaited.
func (w *waits) set(d dependency, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reasons[d] = reason
}

// since is a duration for the log.
func since(began time.Time) string { return time.Since(began).Round(time.Millisecond).String() }

// warn logs the awaited dependency after warnAfter and then every warnEvery, until ctx ends. It returns whether it logged anything.
func (w *waits) warn(ctx context.Context, d dependency, began time.Time) (said bool) {
	timer := time.NewTimer(warnAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return said
		case <-timer.C:
		}
		w.log.Warn("waiting for a dependency", "dependency", d.name, "setting", d.setting, "address", d.address,
			"waited", since(began), "reason", w.reason(d))
		said = true
		timer.Reset(warnEvery)
	}
}

func (w *waits) reason(d dependency) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reasons[d]
}

// all are the dependencies by name: ok, or why and where each is awaited.
func (w *waits) all() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]string)
	for d, reason := range w.reasons {
		all[d.name] = "ok"
		if reason != "" {
			all[d.name] = fmt.Sprintf("waiting for %s (%s): %s", d.address, d.setting, reason)
		}
	}
	return all
}
