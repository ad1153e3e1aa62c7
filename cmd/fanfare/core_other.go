//go:build !unix

package main

// withoutCore has nothing to do: nothing writes core files here.
func withoutCore() {}
