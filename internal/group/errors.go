package group

import "errors"

// errPanicked is what the other callers of a group get when its commit panicked.
var errPanicked = errors.New("group commit panicked")
