package main

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/terminal"
)

type fanoutCmd struct{}

// Run matches events against subscriptions until it is stopped.
func (fanoutCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	return runRole(ctx, c, roleFanout)
}
