package main

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// unguarded are the ways in which net/http and net send something to an address that nothing has judged.
var unguarded = regexp.MustCompile(`\bhttp\.(DefaultClient|DefaultTransport|Get|Head|Post|PostForm|ProxyFromEnvironment)\b|\bhttp\.(Client|Transport)\{|\bnet\.Dial`)

// Whatever leaves Fanfare leaves through the client of internal/egress: deliveries, tests, key sets, token URLs. Only the
// commands, the bench, internal/client and the programs that tests generate a client for make clients of their own, to talk to Fanfare itself; and
// what connects to its own servers dials them.
func TestOnlyEgressMakesClients(t *testing.T) {
	t.Parallel()
	judged := 0
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		for _, own := range []string{"cmd/fanfare/", "internal/bench/", "internal/client/", "internal/egress/", "internal/embedded/", "internal/servertest/", "internal/postgres/", "fanout/fanouttest/", "deploy/clients/testdata/"} {
			if strings.HasPrefix(name, own) {
				return nil
			}
		}
		content, err := os.ReadFile("../../" + name)
		if err != nil {
			return err
		}
		judged++
		if found := unguarded.Find(content); found != nil {
			t.Errorf("%s uses %s: requests go through internal/egress", name, found)
		}
		return nil
	})
	if err != nil || judged < 50 {
		t.Errorf("%d files were judged: %v", judged, err)
	}
	for _, bad := range []string{"http.Get(url)", "c := &http.Client{}", "http.DefaultClient.Do(req)", `net.Dial("tcp", a)`, "net.Dialer{}"} {
		if !unguarded.MatchString(bad) {
			t.Errorf("%s passes", bad)
		}
	}
}
