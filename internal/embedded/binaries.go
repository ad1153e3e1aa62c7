package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

const wayOut = "install Postgres (apt-get install postgresql), or set FANFARE_POSTGRES_URL to a server of yours"

// installations are where packages put Postgres, beside the PATH.
var installations = []string{
	"/usr/lib/postgresql/*/bin",          // Debian
	"/usr/pgsql-*/bin",                   // Red Hat
	"/usr/libexec/postgresql*",           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin", // macOS
	"/usr/local/opt/postgresql@*/bin",
}

// findBinaries finds Postgres on this machine or else downloads it. A cluster that exists needs the version that
// made it; otherwise that of the PATH is taken, or the newest one.
func findBinaries(ctx context.Context, data string, logger *slog.Logger) (binaries, error) {
	want, err := clusterVersion(data)
	if err != nil {
		return binaries{}, err
	}
	found := installed(ctx)
	if best, ok := pick(found, want); ok {
		return best, nil
	}
	bin, err := download(ctx, want, logger)
	if err == nil {
		return bin, nil
	}
	if want != 0 {
		return bin, fmt.Errorf("the data in %s needs Postgres %d, which is neither on this machine nor to be downloaded: "+
			"install it (apt-get install postgresql-%[2]d), or set FANFARE_POSTGRES_URL: %w", data, want, err)
	}
	return bin, fmt.Errorf("there is no Postgres (%d or newer) on this machine, and none can be downloaded: %s: %w",
		oldestMajor, wayOut, err)
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

// pick chooses among installations, the one of the PATH first.
func pick(found []binaries, want int) (best binaries, ok bool) {
	for i, bin := range found {
		switch {
		case want != 0 && bin.major != want, bin.major < oldestMajor:
			continue
		case i == 0 || !ok || bin.major > best.major:
			best, ok = bin, true
		}
	}
	return best, ok
}

// installed are the installations of this machine, that of the PATH first.
func installed(ctx context.Context) []binaries {
	var dirs []string
	if name, err := exec.LookPath("postgres"); err == nil {
		if name, err = filepath.EvalSymlinks(name); err == nil {
			dirs = append(dirs, filepath.Dir(name))
		}
	}
	for _, pattern := range installations {
		matches, _ := filepath.Glob(pattern) // the patterns are well formed
		dirs = append(dirs, matches...)
	}
	var found []binaries
	for _, dir := range dirs {
		if bin, err := inspect(ctx, dir); err == nil {
			found = append(found, bin)
		}
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
