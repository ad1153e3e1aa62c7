package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// keysFrom says where the fields of a call of slog begin: after the message, but for With, which has none.
var keysFrom = map[string]int{
	"With": 0, "Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "Log": 3,
}

// logger finds the name of what logs.
var logger = regexp.MustCompile(`(?i)(^|\.)(log|logger)$|\.logger\(`)

// The guide lists the fields of log lines: all of them, and no others.
func TestLogFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	used := map[string]bool{"trace_id": true, "span_id": true} // by internal/telemetry
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := entry.Name(); entry.IsDir() && name != "." && (strings.HasPrefix(base, ".") || base == "fanfare-data" || base == "deploy") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return addLogFields(used, "../../"+name)
	})
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(guide), "\n## Log lines\n")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	listed := map[string]bool{}
	for line := range strings.Lines(chapter) {
		if cells := strings.Split(line, "|"); len(cells) > 1 {
			for _, word := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				listed[word[1]] = true
			}
		}
	}
	for field := range used {
		if !listed[field] {
			t.Errorf("docs/operations.md does not list the field %s of log lines", field)
		}
	}
	for field := range listed {
		if !used[field] {
			t.Errorf("docs/operations.md lists %s, which no log line has", field)
		}
	}
}

// addLogFields adds the literal keys of the log lines of a file.
func addLogFields(used map[string]bool, file string) error {
	source, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, source, 0)
	if err != nil {
		return err
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		function, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		from, ok := keysFrom[function.Sel.Name]
		on := string(source[set.Position(function.X.Pos()).Offset:set.Position(function.X.End()).Offset])
		if !ok || !logger.MatchString(on) {
			return true
		}
		for i := from; i < len(call.Args); i += 2 {
			if key, ok := call.Args[i].(*ast.BasicLit); ok && key.Kind == token.STRING {
				if text, err := strconv.Unquote(key.Value); err == nil {
					used[text] = true
				}
			}
		}
		return true
	})
	return nil
}
