package main

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/fanfarehq/fanfare/"

// leaves may be imported by any stage; among themselves only as arrows says.
var leaves = []string{
	"internal/api", "internal/cbor", "internal/changes", "internal/crashpoint", "internal/egress", "internal/event", "internal/fair", "internal/group", "internal/jetstream",
	"internal/postgres", "internal/quota", "internal/retry", "internal/router", "internal/seal", "internal/suspect", "internal/survive", "internal/telemetry", "internal/tenantkeys", "internal/trouble",
}

// arrows holds every package and what it may import of ours. They run the way of the data, and nothing
// points back: ingest -> fanout -> deliver -> ledger -> outcome, all -> subscriptions, all five -> leaves.
func arrows() map[string][]string {
	stage := func(next ...string) []string { return append(next, leaves...) }
	// The dialects share internal/dialects, which may know what they may know.
	edge := stage("ingest", "fanout", "deliver", "deliver/history", "deliver/ledger", "deliver/outcome", "deliver/webhook", "subscriptions", "internal/access")
	dialect := append([]string{"internal/dialects"}, edge...)
	return map[string][]string{
		"ingest":            stage("fanout", "deliver", "deliver/ledger", "deliver/outcome", "subscriptions"),
		"fanout":            stage("deliver", "deliver/history", "deliver/ledger", "deliver/outcome", "subscriptions"),
		"fanout/replay":     stage("fanout", "deliver", "deliver/history", "deliver/ledger", "deliver/outcome", "subscriptions"),
		"fanout/audit":      stage("fanout", "deliver", "deliver/history", "deliver/ledger", "deliver/outcome", "subscriptions"),
		"fanout/fanouttest": stage("fanout", "deliver", "deliver/ledger", "subscriptions", "internal/servertest"), // for tests
		"deliver":           stage("deliver/throttle", "deliver/webhook", "deliver/ledger", "deliver/outcome", "subscriptions"),
		"deliver/ledger":    stage("deliver/outcome", "subscriptions"),
		"deliver/history":   stage("deliver/ledger", "deliver/outcome", "deliver/webhook", "subscriptions"),
		"deliver/outcome":   {"internal/cbor", "internal/egress", "internal/event", "internal/tenantkeys"},
		"deliver/webhook":   {"deliver/outcome", "internal/egress", "internal/event", "internal/survive", "subscriptions"},
		"deliver/throttle":  {"internal/group", "internal/postgres", "subscriptions"},
		"subscriptions": {
			"subscriptions/filter",
			"internal/api", "internal/changes", "internal/egress", "internal/event", "internal/fair", "internal/group", "internal/postgres", "internal/quota", "internal/seal",
		},
		"subscriptions/filter": {"internal/event"},

		"internal/attack":     {}, // tests alone, which run the binary
		"internal/access":     {"internal/api", "internal/changes", "internal/egress", "internal/group", "internal/postgres", "internal/quota", "internal/survive"},
		"internal/chaos":      {"internal/crashpoint"}, // tests alone, which run the binary
		"internal/api":        {},
		"internal/egress":     {},
		"internal/cbor":       {},
		"internal/changes":    {"internal/api", "internal/fair", "internal/postgres"},
		"internal/crashpoint": {},
		"internal/event":      {"internal/cbor", "internal/tenantkeys"},
		"internal/embedded":   {},
		"internal/fair":       {},
		"internal/group":      {},
		"internal/jetstream":  {"internal/crashpoint", "internal/group"},
		"internal/postgres":   {"internal/group", "internal/retry", "internal/survive"},
		"internal/quota":      {"internal/api", "internal/postgres"},
		"internal/retry":      {},
		"internal/processes":  {"internal/postgres"},
		"internal/router":     {"internal/jetstream", "internal/suspect"},
		"internal/keyring":    {"internal/seal"},
		"internal/seal":       {},
		"internal/trouble":    {},
		"internal/suspect":    {"internal/group", "internal/jetstream", "internal/postgres"},
		"internal/survive":    {},
		"internal/telemetry":  {},
		"internal/tenantkeys": {"internal/group", "internal/seal"},
		"internal/servertest": {"internal/api", "internal/embedded", "internal/jetstream", "internal/postgres", "internal/seal"},

		"internal/dialects":          edge,
		"internal/dialects/leat":     dialect,
		"internal/dialects/kajabi":   dialect,
		"internal/dialects/passona":  dialect,
		"internal/dialects/babelfor": dialect,
		"internal/dialects/vendors": append([]string{
			"internal/dialects/leat", "internal/dialects/kajabi", "internal/dialects/passona", "internal/dialects/babelfor",
		}, dialect...),

		"internal/client":   {},
		"internal/files":    {},
		"internal/running":  {"internal/files"},
		"internal/terminal": {},
		"internal/demo":     {"deploy", "internal/client", "internal/terminal"},
		"internal/bench":    append([]string{"internal/client", "internal/running", "internal/terminal", "internal/embedded", "fanout/replay"}, edge...),

		"internal/console":     {}, // a client of the JSON API: it knows no stage
		"deploy":               {}, // files that the binary carries
		"deploy/check":         {}, // a module of its own: tests of the files below deploy
		"deploy/clients":       {}, // a module of its own: tests of clients that are generated from docs/openapi.json
		"deploy/check/schemas": {}, // writes its testdata
		"deploy/release":       {}, // a module of its own, which makes the artifacts of a release
		"docs":                 {}, // the guides, which the binary carries too
		"cmd/fanfare":          {"*"},
	}
}

// forTests is what the tests of any package may import beyond the package's own arrows.
var forTests = append([]string{"internal/servertest", "internal/embedded", "internal/access", "deliver/history", "deliver/webhook", "fanout/fanouttest"}, leaves...)

func TestArrows(t *testing.T) {
	t.Parallel()
	for _, err := range wrongArrows(os.DirFS("../.."), arrows()) {
		t.Error(err)
	}
}

// The check itself must be able to fail.
func TestArrowsBadExamples(t *testing.T) {
	t.Parallel()
	file := func(pkg, imported string) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, "package %s\nimport _ %q\n", pkg, module+imported)}
	}
	tests := []struct {
		name string
		tree fstest.MapFS
		want string // what the one complaint holds; empty: none
	}{
		{"the way of the data", fstest.MapFS{"ingest/x.go": file("ingest", "fanout")}, ""},
		{"back-arrow", fstest.MapFS{"deliver/x.go": file("deliver", "fanout")}, "deliver/x.go: deliver must not import fanout"},
		{"back-arrow of a test", fstest.MapFS{"deliver/x_test.go": file("deliver_test", "ingest")}, "must not import ingest"},
		{"test helper in a test", fstest.MapFS{"deliver/x_test.go": file("deliver", "internal/servertest")}, ""},
		{"test helper in the binary", fstest.MapFS{"deliver/x.go": file("deliver", "internal/servertest")}, "must not import internal/servertest"},
		{"cmd", fstest.MapFS{"subscriptions/x.go": file("subscriptions", "cmd/fanfare")}, "must not import cmd/fanfare"},
		{"unknown package", fstest.MapFS{"utils/x.go": file("utils", "internal/group")}, "utils is in no arrow"},
		{"unknown dialect", fstest.MapFS{"internal/dialects/acme/x.go": file("acme", "ingest")}, "internal/dialects/acme is in no arrow"},
		{"no Go at all", fstest.MapFS{"ingest/x.go": &fstest.MapFile{Data: []byte("pack age")}}, "ingest/x.go"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := wrongArrows(tt.tree, arrows())
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %v, want no complaint", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0].Error(), tt.want)):
				t.Errorf("got %v, want one complaint with %q", got, tt.want)
			}
		})
	}
}

// wrongArrows parses the imports of every Go file and returns what breaks the rules. It runs in this process,
// not through `go list`: the test cache sees the files that a test reads, but not those that its children read.
func wrongArrows(tree fs.FS, allowed map[string][]string) (wrong []error) {
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() && name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "fanfare-data") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		wrong = append(wrong, wrongImports(name, src, allowed)...)
		return nil
	})
	if err != nil {
		wrong = append(wrong, err)
	}
	return wrong
}

// wrongImports judges one file.
func wrongImports(name string, src []byte, allowed map[string][]string) (wrong []error) {
	pkg := path.Dir(name)
	may, known := allowed[pkg]
	if !known {
		return []error{fmt.Errorf("%s: %s is in no arrow: add it to arrows() and to docs/architecture.md", name, pkg)}
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		return []error{err}
	}
	if strings.HasSuffix(name, "_test.go") {
		may = slices.Concat(may, forTests, []string{pkg})
	}
	for _, spec := range file.Imports {
		full, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			wrong = append(wrong, errors.Join(errors.New(name), err))
			continue
		}
		imported, ours := strings.CutPrefix(full, module)
		if ours && !slices.Contains(may, imported) && !slices.Contains(may, "*") {
			wrong = append(wrong, fmt.Errorf("%s: %s must not import %s", name, pkg, imported))
		}
	}
	return wrong
}
