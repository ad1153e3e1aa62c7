package main

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/terminal"
)

type apiCmd struct{}

// Run serves the HTTP API, publishing included, until it is stopped.
func (apiCmd) Run(ctx context.Context, c *terminal.Terminal) error { return runRole(ctx, c, roleAPI) }
