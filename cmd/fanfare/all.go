package main

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/terminal"
)

type allCmd struct{}

// Run does what every role does, in one process, until it is stopped. What it lacks of NATS, Postgres and keys
// it brings along, in the data directory.
func (allCmd) Run(ctx context.Context, c *terminal.Terminal) error { return runRole(ctx, c, roleAll) }
