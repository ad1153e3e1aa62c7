package main

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// subjectless finds phrases whose subject the reader has to guess.
var subjectless = regexp.MustCompile(`\b(what|who|whoever|whatever) (is|are|was|has|have|must|may|comes|waits|gets)\b`)

// mostSubjectless is the budget of such lines in all Go outside of tests.
const mostSubjectless = 20

func TestPlainWords(t *testing.T) {
	t.Parallel()
	tree := os.DirFS("../..")
	var lines []string
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() && name != "." && (strings.HasPrefix(base, ".") || base == "fanfare-data") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(src)) {
			if subjectless.MatchString(line) {
				lines = append(lines, name+": "+strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) >= mostSubjectless {
		t.Errorf("%d lines lack a subject, want fewer than %d: name the thing.\n%s", len(lines), mostSubjectless, strings.Join(lines, "\n"))
	}
}
