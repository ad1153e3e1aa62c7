package main

import (
	"errors"
	"fmt"
)

// cleanup holds the steps to undo, in the order in which it was done.
type cleanup struct {
	steps []step
}

type step struct {
	name string
	undo func() error
}

// add remembers how to undo the last step.
func (c *cleanup) add(name string, undo func() error) {
	c.steps = append(c.steps, step{name, undo})
}

// run undoes all, the last first, whatever fails on the way.
func (c *cleanup) run() error {
	var errs []error
	for i := len(c.steps) - 1; i >= 0; i-- {
		if err := c.steps[i].undo(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.steps[i].name, err))
		}
	}
	c.steps = nil
	return errors.Join(errs...)
}
