package main

import (
	"fmt"
	"os"
	"regexp"
	"syscall"
	"testing"
)

// A role leaves no core file, in which secrets would stand, even where whoever starts it allows them.
func TestNoCoreFile(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	before := limit
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	p := start(t, t.TempDir(), sharedSettings("nats://127.0.0.1:1", "postgres://127.0.0.1:1/none"), "fanout")
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	soft := regexp.MustCompile(`(?m)^Max core file size +(\S+)`)
	p.wait("it may leave no core file", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		m := soft.FindSubmatch(text)
		return m != nil && string(m[1]) == "0"
	})
}
