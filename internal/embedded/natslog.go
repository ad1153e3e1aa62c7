package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// natsLogger hands the server's words to slog. Notices become debug lines: at each start there are dozens.
type natsLogger struct {
	log *slog.Logger

	mu   sync.Mutex
	last string // the last error or fatal line: why a start failed

	full atomic.Bool // a write failed for want of space
}

func newNATSLogger(log *slog.Logger) *natsLogger {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &natsLogger{log: log.With("part", "nats")}
}

func (l *natsLogger) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }
func (l *natsLogger) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *natsLogger) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *natsLogger) Warnf(format string, v ...any)   { l.line(slog.LevelWarn, format, v) }
func (l *natsLogger) Errorf(format string, v ...any)  { l.failure(format, v) }
func (l *natsLogger) Fatalf(format string, v ...any)  { l.failure(format, v) }

func (l *natsLogger) line(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}

func (l *natsLogger) failure(format string, v []any) {
	text := strings.TrimSpace(fmt.Sprintf(format, v...))
	l.mu.Lock()
	l.last = text
	for _, full := range diskFull {
		if strings.Contains(text, full.Error()) {
			l.full.Store(true)
		}
	}
	l.mu.Unlock()
	l.log.Error(text)
}

// reason says why the server did not start.
func (l *natsLogger) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return fmt.Errorf("not ready within %s", startTimeout)
	}
	return errors.New(l.last)
}
