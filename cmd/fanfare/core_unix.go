//go:build unix

package main

import "syscall"

// withoutCore keeps this process from leaving a core file: its memory holds secrets. Only the soft limit falls, so that whoever
// looks for a fault may raise it again, on Linux with prlimit.
func withoutCore() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) != nil {
		return // There is no such limit to lower.
	}
	limit.Cur = 0
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit) // A soft limit may always fall.
}
