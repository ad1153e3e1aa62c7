package main

import "context"

type allCmd struct{}

// Run does what every role does, in one process, until it is stopped. What it lacks of NATS, Postgres and keys
// it brings along, in the data directory.
func (allCmd) Run(ctx context.Context, c *console) error { return runRole(ctx, c, roleAll) }
