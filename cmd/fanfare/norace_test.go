//go:build !race

package main

// raceEnabled makes the tests build the binary as they are built.
const raceEnabled = false
