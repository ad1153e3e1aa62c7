package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// usableMemory is that of the machine in bytes, or of the container, where that has less; 0 if neither is known.
func usableMemory() int64 {
	var system syscall.Sysinfo_t
	var memory int64
	if err := syscall.Sysinfo(&system); err == nil {
		memory = int64(system.Totalram) * int64(system.Unit)
	}
	if raw, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		memory = containerMemory(string(raw), memory)
	}
	return memory
}

// containerMemory is what cgroups say of the limit: a number of bytes, or max.
func containerMemory(limit string, machine int64) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(limit), 10, 64)
	if err != nil || machine > 0 && n > machine {
		return machine
	}
	return n
}
