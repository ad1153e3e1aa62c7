//go:build !linux

package main

// untouch can do nothing here: the memory may be resident.
func untouch([]byte) {}

// usableMemory is not known here.
func usableMemory() int64 { return 0 }
