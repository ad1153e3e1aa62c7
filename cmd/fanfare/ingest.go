package main

import "context"

type ingestCmd struct{}

// Run serves publishing alone until it is stopped.
func (ingestCmd) Run(ctx context.Context, c *console) error { return runRole(ctx, c, roleIngest) }
