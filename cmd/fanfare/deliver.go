package main

import "context"

type deliverCmd struct{}

// Run sends webhooks, and records what became of them, until it is stopped.
func (deliverCmd) Run(ctx context.Context, c *console) error { return runRole(ctx, c, roleDeliver) }
