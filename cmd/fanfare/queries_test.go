package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// Every query parameter that a route takes is read: the field that holds it is used in its package. A parameter that is taken and
// ignored would say that a filter holds.
func TestEveryQueryParameterIsRead(t *testing.T) {
	t.Parallel()
	taken, read := map[string]map[string]string{}, map[string]map[string]bool{} // by folder: fields and their parameters; selected names
	err := fs.WalkDir(os.DirFS("../.."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return errOrSkip(err)
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", path), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder := filepath.Dir(path)
		if taken[folder] == nil {
			taken[folder], read[folder] = map[string]string{}, map[string]bool{}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				if name := parameterOf(n); name != "" && len(n.Names) == 1 {
					taken[folder][n.Names[0].Name] = name
				}
			case *ast.SelectorExpr:
				read[folder][n.Sel.Name] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for folder, fields := range taken {
		for field, name := range fields {
			if n++; !read[folder][field] {
				t.Errorf("%s: the query parameter %q is taken as %s and never read", folder, name, field)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d query parameters were found", n)
	}
}

func errOrSkip(err error) error {
	if err != nil {
		return err
	}
	return fs.SkipDir
}

// parameterOf returns the query parameter that a field holds; empty for any other field.
func parameterOf(f *ast.Field) string {
	if f.Tag == nil {
		return ""
	}
	tag, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(reflect.StructTag(tag).Get("query"), ",")
	return name
}
