package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/deploy"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// loadCmd is a steady load on a Fanfare that runs already, to look at in its metrics and traces.
type loadCmd struct {
	API    string `default:"http://127.0.0.1:8080" help:"Where the API is; the key is FANFARE_ADMIN_KEY."`
	Hooks  string `default:"http://127.0.0.1:9000" help:"A receiver, such as fanfare listen, which gets every event."`
	Tenant string `default:"demo" help:"The tenant that subscribes and publishes."`
	Rate   int    `default:"10" help:"Events a second."`
}

// Run publishes until it is stopped.
func (cmd loadCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	var keys access.Config
	if err := readEnvironment([]section{{"access", &keys}}); err != nil {
		return err
	}
	switch {
	case keys.AdminKey == "":
		return errors.New("FANFARE_ADMIN_KEY is not set")
	case cmd.Rate < 1 || cmd.Rate > 1000:
		return errors.New("--rate must be 1 to 1000")
	}
	api := client.New(cmd.API, keys.AdminKey)
	defer api.Close()
	if err := cmd.subscribe(ctx, api); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Publishing %d events a second to %s. Ctrl-C ends it.\n", cmd.Rate, cmd.API)
	tick := time.NewTicker(time.Second / time.Duration(cmd.Rate))
	defer tick.Stop()
	for {
		for line := range bytes.Lines(deploy.DemoEvents) {
			if err := cmd.publish(ctx, api, line); err != nil && ctx.Err() == nil {
				fmt.Fprintln(c.Err, "fanfare:", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
}

// subscribe makes the receiver's subscription, unless an earlier run has made it.
func (cmd loadCmd) subscribe(ctx context.Context, api *client.Client) error {
	var made struct {
		Data []struct {
			URL string `json:"url"`
		} `json:"data"`
	}
	if err := api.Do(ctx, "GET /v1/subscriptions?limit=500&tenant="+cmd.Tenant, nil, &made); err != nil {
		return err
	}
	for _, s := range made.Data {
		if s.URL == cmd.Hooks {
			return nil
		}
	}
	return api.Do(ctx, "POST /v1/subscriptions?tenant="+cmd.Tenant, map[string]any{
		"name": "Everything", "url": cmd.Hooks, "event_types": []string{"*"},
	}, nil)
}

// publish sends one of the demo's events as a new one: without its id.
func (cmd loadCmd) publish(ctx context.Context, api *client.Client, line []byte) error {
	var e map[string]json.RawMessage
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("read the demo's events: %w", err)
	}
	delete(e, "id")
	return api.Do(ctx, "POST /v1/events?tenant="+cmd.Tenant, e, nil)
}
