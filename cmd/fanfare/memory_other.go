//go:build !linux

package main

// usableMemory is not known here.
func usableMemory() int64 { return 0 }
