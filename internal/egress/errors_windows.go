package egress

import "golang.org/x/sys/windows"

// connectionEnds are the errors of the system for a connection that ended early.
var connectionEnds = []error{windows.WSAECONNRESET, windows.WSAECONNABORTED, windows.WSAESHUTDOWN}

// connectionRefused is the error of the system for a port where no process listens.
const connectionRefused = windows.WSAECONNREFUSED
