package main

import "context"

type apiCmd struct{}

// Run serves the HTTP API, publishing included, until it is stopped.
func (apiCmd) Run(ctx context.Context, c *console) error { return runRole(ctx, c, roleAPI) }
