package main

import "os"

// headroom is how much more than the live heap may pile up before garbage is collected: a 64th of the machine's memory,
// within these bounds. While it is collected nearly all of two cores is taken for 30 to 50 ms.
const (
	leastHeadroom = 128 << 20
	mostHeadroom  = 384 << 20
)

func headroom(memory int64) int64 { return min(max(memory/64, leastHeadroom), mostHeadroom) }

// ballast is memory that is reserved and never touched, so it costs address space only. The collector takes it
// for live and runs each time the heap has doubled: with a small live heap, as a process that passes events on has,
// it would otherwise run many times a second and take an eighth of the CPU under load. Unlike a larger GOGC, it
// adds a constant, so a directory of a million subscriptions does not cost a multiple of its size. Whoever
// sets GOGC or GOMEMLIMIT has decided otherwise. The result must be kept alive.
func ballast() []byte {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	b := make([]byte, headroom(usableMemory()))
	untouch(b)
	return b
}
