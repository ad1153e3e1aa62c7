//go:build unix

package egress

import "syscall"

// connectionEnds are the errors of the system for a connection that ended early.
var connectionEnds = []error{syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED}

// connectionRefused is the error of the system for a port where no process listens.
const connectionRefused = syscall.ECONNREFUSED
