package main

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/terminal"
)

type ingestCmd struct{}

// Run serves publishing alone until it is stopped.
func (ingestCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	return runRole(ctx, c, roleIngest)
}
