package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/demo"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// demoCmd shows the pipeline at work, in a data directory of its own and on free ports.
type demoCmd struct {
	Keep bool `help:"Keep everything running at the end, to look around."`
}

// Run fails unless the numbers add up.
func (cmd demoCmd) Run(ctx context.Context, c *terminal.Terminal) (err error) {
	s, err := readSettings()
	if err != nil {
		return err
	}
	// Everything is the demo's own; the environment decides nothing that could mix it with what runs already.
	s.server.DataDir, err = os.MkdirTemp("", "fanfare-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.server.DataDir)) }()
	s.server.Addr, s.server.OpsAddr, s.server.NATSListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s.nats.URL, s.server.PostgresURL, s.server.SecretKeys, s.access.AdminKey = "", "", "", ""
	s.egress.AllowPrivateCIDRs = "127.0.0.0/8"
	s.server.ShutdownDelay = new(time.Duration) // No load balancer needs to notice.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the demo's webhooks: %w", err)
	}
	d := demo.New(c, "http://"+listener.Addr().String())

	fmt.Fprintln(c.Out, "Starting NATS, Postgres and every role ...")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return api.Serve(ctx, listener, api.NewServer(d.Receivers(), nil), drainTimeout) })
	group.Go(func() error {
		return serveRole(ctx, s, roleAll, host{log: quiet(c), ready: func(ctx context.Context, b banner) error {
			if err := d.Run(ctx, demo.Server{API: b.at.API, Key: b.adminKey, NATS: withoutUser(b.at.NATS)}); err != nil {
				return err
			}
			if cmd.Keep {
				fmt.Fprintf(c.Out, "\nThe API is %s, its admin key %s. Ctrl-C ends it.\n", b.at.API, b.adminKey)
				<-ctx.Done()
			}
			cancel()
			return nil
		}})
	})
	return group.Wait()
}

// quiet logs what goes wrong, and nothing else: the demo's own words are on the terminal.
func quiet(c *terminal.Terminal) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.Err, &slog.HandlerOptions{Level: slog.LevelError}))
}
