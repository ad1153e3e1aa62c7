// A finder searches the machine; here it gets the places to search, the archive and the path.

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tests of this file are not parallel: a program just written cannot be run while another test starts a
// process, which for a moment holds the file open.

// install makes programs that say that they are Postgres of a version.
func install(t *testing.T, dir string, version string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func testFinder(t *testing.T, root string) finder {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir()) // where the library leaves a log
	return finder{
		lookPath:   func(string) (string, error) { return "", errors.New("not in the path") },
		patterns:   []string{filepath.Join(root, "*", "bin")},
		repository: "http://127.0.0.1:1",
		home:       t.TempDir(),
		logger:     slog.New(slog.DiscardHandler),
	}
}

func TestFindTakesThePathsOrTheNewest(t *testing.T) {
	root := t.TempDir()
	for dir, version := range map[string]string{"9": "9.6.24", "14": "14.2", "16": "16.1 (Debian)", "old": "13.9", "x": "17beta1"} {
		install(t, filepath.Join(root, dir, "bin"), version)
	}
	install(t, filepath.Join(root, "path"), "15.4")
	data := filepath.Join(root, "data")
	f := testFinder(t, root)
	withPath := f
	withPath.lookPath = func(string) (string, error) { return filepath.Join(root, "path", "postgres"), nil }
	for _, test := range []struct {
		finder  finder
		cluster string
		want    int
	}{
		{f, "", 17}, {withPath, "", 15}, {f, "14\n", 14}, {withPath, "16\n", 16}, {withPath, "15\n", 15},
	} {
		writeVersion(t, data, test.cluster)
		got, err := test.finder.find(t.Context(), data)
		if err != nil || got.major != test.want {
			t.Errorf("cluster %q: got %+v, error %v, want %d", test.cluster, got, err, test.want)
		}
	}
}

// writeVersion makes the data directory that of a cluster of the version; none if empty.
func writeVersion(t *testing.T, data, version string) {
	t.Helper()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if version == "" {
		return
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(version), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFindSaysTheWayOut(t *testing.T) {
	root := t.TempDir()
	data := filepath.Join(root, "data")
	for cluster, want := range map[string]string{
		"": "apt-get install postgresql)", "17": "apt-get install postgresql-17)", "12": "no download of Postgres 12",
		"many": "read the cluster's version",
	} {
		writeVersion(t, data, cluster)
		_, err := testFinder(t, root).find(t.Context(), data)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("cluster %q: got %v, want %q", cluster, err, want)
		}
		if cluster != "many" && !strings.Contains(err.Error(), "FANFARE_POSTGRES_URL") {
			t.Errorf("cluster %q: got %v, without the variable's name", cluster, err)
		}
	}
}

// The archive in testdata is one of Maven Central's in miniature: a jar with a .txz whose programs are scripts.
func TestFindDownloadsOnce(t *testing.T) {
	root := t.TempDir()
	downloads := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".jar") {
			http.NotFound(w, r)
			return
		}
		downloads++
		http.ServeFile(w, r, "testdata/postgres.jar")
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections() // which the library uses
	f := testFinder(t, root)
	f.repository = server.URL
	for range 2 {
		bin, err := f.find(t.Context(), filepath.Join(root, "data"))
		if err != nil || bin.major != 18 {
			t.Fatalf("got %+v, error %v", bin, err)
		}
		info, err := os.Stat(bin.initdb)
		if err != nil || info.Mode().Perm()&0o055 != 0o055 {
			t.Errorf("others cannot run %s: %v, error %v", bin.initdb, info.Mode(), err)
		}
	}
	if downloads != 1 {
		t.Errorf("downloaded %d times", downloads)
	}
	if left, _ := filepath.Glob(filepath.Join(f.home, "incoming-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A start that has failed elsewhere looks for no Postgres any more, so the log does not claim that there is none.
func TestFinderThatIsToldToStopDownloadsNothing(t *testing.T) {
	f := testFinder(t, t.TempDir())
	var log bytes.Buffer
	f.logger = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.download(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if log.Len() > 0 {
		t.Errorf("the log says %s", log.String())
	}
}
