package jetstream_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// signals is a log whose lines a test can wait for.
type signals struct {
	mu    sync.Mutex
	more  *sync.Cond
	lines []string
}

func newSignals() *signals {
	s := &signals{}
	s.more = sync.NewCond(&s.mu)
	return s
}

func (s *signals) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

// Write implements io.Writer.
func (s *signals) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(bytes.TrimSpace(line)))
	s.more.Broadcast()
	return len(line), nil
}

// wait returns once a line holds the text. Such lines count once.
func (s *signals) wait(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if i := slices.IndexFunc(s.lines, func(l string) bool { return strings.Contains(l, text) }); i >= 0 {
			s.lines = s.lines[i+1:]
			return
		}
		s.more.Wait()
	}
}
