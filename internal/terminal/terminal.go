// Package terminal is where a command writes to.
package terminal

import "io"

// Terminal takes results on Out and everything else on Err.
type Terminal struct {
	Out, Err io.Writer
}
