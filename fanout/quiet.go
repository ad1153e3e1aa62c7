package fanout

import (
	"log/slog"

	"github.com/ThreeDotsLabs/watermill"
)

// quiet is a logger for the router that leaves out what it says of every message.
type quiet struct{ watermill.LoggerAdapter }

func newQuiet(log *slog.Logger) quiet {
	return quiet{watermill.NewSlogLoggerWithLevelMapping(log, map[slog.Level]slog.Level{slog.LevelInfo: slog.LevelDebug})}
}

// Debug implements watermill.LoggerAdapter.
func (quiet) Debug(string, watermill.LogFields) {}

// Trace implements watermill.LoggerAdapter.
func (quiet) Trace(string, watermill.LogFields) {}

// With implements watermill.LoggerAdapter.
func (q quiet) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return quiet{q.LoggerAdapter.With(fields)}
}
