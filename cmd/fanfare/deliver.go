package main

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/terminal"
)

type deliverCmd struct{}

// Run sends webhooks, and records what became of them, until it is stopped.
func (deliverCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	return runRole(ctx, c, roleDeliver)
}
