package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// downloadTimeout bounds the download of about 30 MB.
const downloadTimeout = 5 * time.Minute

// releases are what can be downloaded, the preferred one first.
var releases = []struct {
	major   int
	version embeddedpostgres.PostgresVersion
}{
	{18, embeddedpostgres.V18}, {17, embeddedpostgres.V17}, {16, embeddedpostgres.V16},
	{15, embeddedpostgres.V15}, {14, embeddedpostgres.V14},
}

// download fetches Postgres from Maven Central, once.
func download(ctx context.Context, want int, logger *slog.Logger) (binaries, error) {
	for _, release := range releases {
		if want != 0 && release.major != want {
			continue
		}
		home, err := downloadHome()
		if err != nil {
			return binaries{}, err
		}
		home = filepath.Join(home, "postgres-"+string(release.version))
		if bin, err := inspect(ctx, filepath.Join(home, "bin")); err == nil {
			return bin, nil
		}
		logger.Info("no Postgres on this machine: downloading it, once", "version", string(release.version), "to", home)
		if err := fetch(ctx, release.version, home, mavenCentral); err != nil {
			return binaries{}, err
		}
		return inspect(ctx, filepath.Join(home, "bin"))
	}
	return binaries{}, fmt.Errorf("no download of Postgres %d is known", want)
}

const mavenCentral = "https://repo1.maven.org/maven2"

// downloadHome is where downloads are kept. Those of root must be where the account that runs them can
// reach them; a home directory is not.
func downloadHome() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/fanfare", nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a directory for the download: %w", err)
	}
	return filepath.Join(cache, "fanfare"), nil
}

// fetch downloads and unpacks a release. It is unpacked aside and moved into place when complete.
func fetch(ctx context.Context, version embeddedpostgres.PostgresVersion, home, repository string) error {
	parent := filepath.Dir(home)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("make a directory for the download: %w", err)
	}
	aside, err := os.MkdirTemp(parent, "incoming-")
	if err != nil {
		return fmt.Errorf("make a directory for the download: %w", err)
	}
	defer os.RemoveAll(aside)
	ctx, cancel := context.WithTimeoutCause(ctx, downloadTimeout, fmt.Errorf("no download within %s", downloadTimeout))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- unpack(version, aside, repository) }() // it knows no context: left behind when ours ends
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("download Postgres %s from %s: %w", version, repository, err)
	}
	debug.FreeOSMemory() // the archive was unpacked in memory
	if err := os.Rename(filepath.Join(aside, "unpacked"), home); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("move the download into place: %w", err)
	}
	return os.Chmod(home, 0o755)
}

// unpack lets the library download and unpack. The library would then also start a server of its own, on a port;
// a data directory that cannot be removed, for its name ends in a dot, stops it before that.
func unpack(version embeddedpostgres.PostgresVersion, aside, repository string) error {
	home := filepath.Join(aside, "unpacked")
	err := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(version).
		Port(0).
		BinaryRepositoryURL(repository).
		CachePath(filepath.Join(aside, "archive")).
		BinariesPath(home).
		RuntimePath(filepath.Join(aside, "runtime")).
		DataPath(filepath.Join(aside, "runtime") + "/.").
		Logger(io.Discard)).Start()
	if err != nil && strings.Contains(err.Error(), "unable to clean up data directory") {
		return os.Chmod(home, 0o755)
	}
	if err == nil {
		return errors.New("the library started a server that was not asked for")
	}
	return err
}
