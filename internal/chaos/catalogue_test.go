package chaos_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// faults is how many faults the catalogue of docs/reliability.md has.
const faults = 168

// entry is a row of the catalogue: number, fault, and its tests or the reason why there is none.
var entry = regexp.MustCompile(`(?m)^\| F(\d{3}) \| (.+) \| (.+) \|$`)

// named is a test as the catalogue names it: its folder and name, and a way of breaking in parentheses.
var named = regexp.MustCompile(`^([a-z/0-9]+) (Test\w+)(?: \((.+)\))?$`)

// Each fault has a test that exists, or a reason why there is none.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := declared(t)
	rows := entry.FindAllStringSubmatch(string(text), -1)
	if len(rows) != faults {
		t.Errorf("the catalogue has %d rows, want %d", len(rows), faults)
	}
	for i, row := range rows {
		if want := fmt.Sprintf("%03d", i+1); row[1] != want {
			t.Errorf("row %d is F%s, want F%s", i+1, row[1], want)
		}
		if reason, none := strings.CutPrefix(row[3], "none: "); none {
			if len(reason) < 10 {
				t.Errorf("F%s has no reason", row[1])
			}
			continue
		}
		for test := range strings.SplitSeq(row[3], ", ") {
			m := named.FindStringSubmatch(test)
			if m == nil {
				t.Errorf("F%s: %q names no test", row[1], test)
				continue
			}
			if !tests[m[1]+" "+m[2]] {
				t.Errorf("F%s: there is no %s in %s", row[1], m[2], m[1])
			}
			if m[3] != "" && !broken(m[3]) {
				t.Errorf("F%s: the nemesis does not %q", row[1], m[3])
			}
		}
	}
}

func broken(name string) bool {
	for _, b := range breakages {
		if b.name == name {
			return true
		}
	}
	return false
}

// declared finds the tests of the repository, by folder and name.
func declared(t *testing.T) map[string]bool {
	t.Helper()
	root, tests := "../..", map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		for _, m := range function.FindAllSubmatch(content, -1) {
			tests[filepath.ToSlash(folder)+" "+string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}
