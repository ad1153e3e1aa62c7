package main

import "context"

type fanoutCmd struct{}

// Run matches events against subscriptions until it is stopped.
func (fanoutCmd) Run(ctx context.Context, c *console) error { return runRole(ctx, c, roleFanout) }
