package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Config says where NATS is.
type Config struct {
	// URL lists the servers, comma-separated, with tls:// and credentials where they need them.
	URL string `envconfig:"NATS_URL" desc:"the NATS servers, comma-separated; empty: one within this process"`
	// Creds is the path of a credentials file.
	Creds string `envconfig:"NATS_CREDS" desc:"path of a NATS credentials file (.creds); empty: none"`
}

// Options are those that a connection needs beside the URL.
func (c Config) Options() []nats.Option {
	if c.Creds == "" {
		return nil
	}
	return []nats.Option{nats.UserCredentials(c.Creds)}
}

// Connect connects to the servers that url lists and keeps the connection, with the settings of Steady and then opts. At first
// it tries until ctx ends, unless the servers refuse the credentials.
func Connect(ctx context.Context, url string, opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{Steady}, opts...)
	for pause := (backOff{}); ; {
		nc, err := nats.Connect(url, opts...)
		switch {
		case err == nil:
			return nc, nil
		case !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout):
			return nil, fmt.Errorf("connect to NATS: %w", err)
		case !pause.wait(ctx):
			return nil, fmt.Errorf("connect to NATS: %w (%w)", err, context.Cause(ctx))
		}
	}
}

// Steady is the option of a connection that comes back whatever happens, and that notices within 20 s when the other
// side vanished without a word.
func Steady(o *nats.Options) error {
	o.Name = "fanfare"
	o.MaxReconnect = -1
	o.ReconnectWait = 500 * time.Millisecond
	o.PingInterval = 10 * time.Second
	o.MaxPingsOut = 2
	// Credentials may be refused while an account server is away; they are tried again like all else.
	o.IgnoreAuthErrorAbort = true
	return Lean(o)
}

// Lean is the option of a connection that makes little garbage: each read of many messages makes room for so many, and the
// default, 65,536, is half a megabyte.
func Lean(o *nats.Options) error {
	o.SubChanLen = 4096
	return nil
}

// Log is the option of a connection that logs what becomes of it, instead of printing errors to the console.
func Log(log *slog.Logger) nats.Option {
	return func(o *nats.Options) error {
		o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "error", err)
			}
		}
		o.ReconnectedCB = func(nc *nats.Conn) {
			log.Info("connection to NATS is back", "server", nc.ConnectedUrlRedacted())
		}
		o.AsyncErrorCB = func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS reported an error", "subject", subject, "error", err)
		}
		return nil
	}
}
