package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Fanfare's own packages are valid Go on each platform of a release. They are only type-checked, against the declarations of
// their dependencies: to compile all of it for each platform takes minutes.
func TestPlatformsCompile(t *testing.T) {
	t.Parallel()
	for _, p := range platforms {
		if p == here || p.Arch != "arm64" { // The operating system makes the difference.
			continue
		}
		t.Run(p.OS, func(t *testing.T) {
			t.Parallel()
			checked := map[string]*types.Package{"unsafe": types.Unsafe}
			for _, l := range dependencies(t, p) {
				if l.ImportPath == "unsafe" {
					continue
				}
				pkg, err := l.check(p, checked)
				if own := strings.HasPrefix(l.ImportPath, "github.com/fanfarehq/fanfare"); own && err != nil {
					t.Errorf("%s: %v", l.ImportPath, err)
				}
				checked[l.ImportPath] = pkg
			}
			if checked["github.com/fanfarehq/fanfare/cmd/fanfare"] == nil {
				t.Error("cmd/fanfare is not among the packages")
			}
		})
	}
}

// listed is a package as `go list` prints it.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string
}

// dependencies lists cmd/fanfare with all that it imports, each package after those that it imports.
func dependencies(t *testing.T, p platform) (all []listed) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,ImportMap", "./cmd/fanfare")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Arch)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
}

// check type-checks a package; of the dependencies, only what they declare.
func (l listed) check(p platform, checked map[string]*types.Package) (*types.Package, error) {
	var files []*ast.File
	set := token.NewFileSet()
	for _, name := range l.GoFiles {
		f, err := parser.ParseFile(set, filepath.Join(l.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	var all []error
	config := types.Config{
		IgnoreFuncBodies: !strings.HasPrefix(l.ImportPath, "github.com/fanfarehq/fanfare"), FakeImportC: true,
		Sizes: types.SizesFor("gc", p.Arch), Error: func(err error) { all = append(all, err) },
		Importer: importer(func(path string) (*types.Package, error) {
			if mapped, ok := l.ImportMap[path]; ok {
				path = mapped
			}
			if pkg := checked[path]; pkg != nil {
				return pkg, nil
			}
			return nil, errors.New("cannot find " + path)
		}),
	}
	pkg, _ := config.Check(l.ImportPath, set, files, nil) // The errors are in all.
	return pkg, errors.Join(slices.Clip(all)...)
}

// importer is a types.Importer.
type importer func(path string) (*types.Package, error)

func (i importer) Import(path string) (*types.Package, error) { return i(path) }
