//go:build unix

package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// binaries are the programs of one Postgres installation.
type binaries struct {
	initdb, postgres string
	major            int
}

// oldestMajor is the oldest Postgres that works with the driver and with what we ask of initdb.
const oldestMajor = 14

// finder finds Postgres on this machine, or else downloads it.
type finder struct {
	lookPath   func(string) (string, error)
	patterns   []string
	repository string
	home       string // of downloads
	logger     *slog.Logger
}

func newFinder(logger *slog.Logger) finder {
	return finder{
		lookPath: exec.LookPath,
		patterns: []string{
			"/usr/lib/postgresql/*/bin",          // Debian
			"/usr/pgsql-*/bin",                   // Red Hat
			"/usr/libexec/postgresql*",           // Alpine
			"/opt/homebrew/opt/postgresql@*/bin", // macOS
			"/usr/local/opt/postgresql@*/bin",
		},
		repository: mavenCentral,
		home:       downloadHome(),
		logger:     logger,
	}
}

// find returns the programs for the cluster in the data directory, which needs the version that made it. For
// a cluster yet to be made it is that of the PATH, else the newest one.
func (f finder) find(ctx context.Context, data string) (binaries, error) {
	want, err := clusterVersion(data)
	if err != nil {
		return binaries{}, err
	}
	for _, bin := range f.installed(ctx) {
		if bin.major >= oldestMajor && (want == 0 || bin.major == want) {
			return bin, nil
		}
	}
	bin, err := f.download(ctx, want)
	switch {
	case err == nil:
		return bin, nil
	case want != 0:
		return bin, fmt.Errorf("the data in %s needs Postgres %d, which is not on this machine and cannot be downloaded; "+
			"install it (apt-get install postgresql-%[2]d), or set FANFARE_POSTGRES_URL to a server of yours: %w",
			data, want, err)
	default:
		return bin, fmt.Errorf("there is no Postgres of version %d or newer on this machine, and none can be downloaded; "+
			"install it (apt-get install postgresql), or set FANFARE_POSTGRES_URL to a server of yours: %w",
			oldestMajor, err)
	}
}

// clusterVersion is the major version of the cluster in the data directory; 0 where there is none yet.
func clusterVersion(data string) (int, error) {
	content, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the cluster's version: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("read the cluster's version in %s: %w", data, err)
	}
	return major, nil
}

// installed are the installations of this machine: that of the PATH, then from the newest to the oldest.
func (f finder) installed(ctx context.Context) []binaries {
	var found []binaries
	for _, pattern := range f.patterns {
		dirs, _ := filepath.Glob(pattern) // the patterns are well formed
		for _, dir := range dirs {
			if bin, err := inspect(ctx, dir); err == nil {
				found = append(found, bin)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b binaries) int { return cmp.Compare(b.major, a.major) })
	name, err := f.lookPath("postgres")
	if err != nil {
		return found
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	if bin, err := inspect(ctx, filepath.Dir(name)); err == nil {
		found = slices.Insert(found, 0, bin)
	}
	return found
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspect says which Postgres a directory of programs holds.
func inspect(ctx context.Context, dir string) (binaries, error) {
	bin := binaries{initdb: filepath.Join(dir, "initdb"), postgres: filepath.Join(dir, "postgres")}
	if _, err := os.Stat(bin.initdb); err != nil {
		return bin, err
	}
	output, err := exec.CommandContext(ctx, bin.postgres, "--version").Output()
	if err != nil {
		return bin, fmt.Errorf("ask %s for its version: %w", bin.postgres, err)
	}
	match := versionPattern.FindSubmatch(output)
	if match == nil {
		return bin, fmt.Errorf("%s says that its version is %q", bin.postgres, output)
	}
	bin.major, err = strconv.Atoi(string(match[1]))
	return bin, err
}
