package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/fanfarehq/fanfare/internal/telemetry"
)

// logConfig says how the process logs. It logs to standard error.
type logConfig struct {
	Format string     `envconfig:"LOG_FORMAT" default:"text" desc:"how log lines are written: text or json"`
	Level  slog.Level `envconfig:"LOG_LEVEL" default:"info" desc:"the least level that is logged: debug, info, warn or error"`
}

// Validate names the variable that is wrong.
func (c logConfig) Validate() error {
	if c.Format != "text" && c.Format != "json" {
		return fmt.Errorf("FANFARE_LOG_FORMAT is %q: it must be text or json", c.Format)
	}
	return nil
}

// logger makes the process's one logger.
func (c logConfig) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(telemetry.Logs(slog.NewJSONHandler(w, options)))
	}
	return slog.New(telemetry.Logs(slog.NewTextHandler(w, options)))
}
