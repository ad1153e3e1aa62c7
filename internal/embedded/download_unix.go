//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	mavenCentral = "https://repo1.maven.org/maven2"
	// downloadTimeout bounds the download of about 30 MB.
	downloadTimeout = 5 * time.Minute
)

// releases are what can be downloaded, the preferred one first.
var releases = []struct {
	major   int
	version embeddedpostgres.PostgresVersion
}{
	{18, embeddedpostgres.V18}, {17, embeddedpostgres.V17}, {16, embeddedpostgres.V16},
	{15, embeddedpostgres.V15}, {14, embeddedpostgres.V14},
}

// downloadHome is where downloads are kept. Those of root must be where the account that runs them can
// reach them; a home directory is not.
func downloadHome() string {
	if os.Geteuid() == 0 {
		return "/var/cache/fanfare"
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir() // there is no home; downloaded again when the machine forgets it
	}
	return filepath.Join(cache, "fanfare")
}

// download fetches Postgres of the major version that is wanted (0: any), unless that was done before.
func (f finder) download(ctx context.Context, want int) (binaries, error) {
	for _, release := range releases {
		if want != 0 && release.major != want {
			continue
		}
		home := filepath.Join(f.home, "postgres-"+string(release.version))
		if bin, err := inspect(ctx, filepath.Join(home, "bin")); err == nil {
			return bin, nil
		}
		if err := ctx.Err(); err != nil {
			return binaries{}, err // Another part of the start failed first: whether there is a Postgres is unknown.
		}
		f.logger.Info("no Postgres on this machine: downloading it, once", "version", string(release.version), "to", home)
		if err := fetch(ctx, release.version, home, f.repository); err != nil {
			return binaries{}, fmt.Errorf("download Postgres %s from %s: %w", release.version, f.repository, err)
		}
		return inspect(ctx, filepath.Join(home, "bin"))
	}
	return binaries{}, fmt.Errorf("no download of Postgres %d is known", want)
}

// fetch downloads and unpacks a release. It is unpacked aside and moved into place when complete.
func fetch(ctx context.Context, version embeddedpostgres.PostgresVersion, home, repository string) error {
	parent := filepath.Dir(home)
	if err := errors.Join(os.MkdirAll(parent, 0o755), os.Chmod(parent, 0o755)); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	aside, err := os.MkdirTemp(parent, "incoming-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(aside)
	ctx, cancel := context.WithTimeoutCause(ctx, downloadTimeout, fmt.Errorf("not done within %s", downloadTimeout))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- unpack(version, aside, repository) }() // it knows no context: left behind when ours ends
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // the archive was unpacked in memory
	if err := os.Rename(filepath.Join(aside, "unpacked"), home); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("move it into place: %w", err)
	}
	return nil
}

// unpack lets the library download and unpack. The library would then also start a server of its own, on a port;
// a data directory that cannot be removed, for its name ends in a dot, stops it before that.
func unpack(version embeddedpostgres.PostgresVersion, aside, repository string) error {
	home, runtime := filepath.Join(aside, "unpacked"), filepath.Join(aside, "runtime")
	err := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(version).
		Port(0).
		BinaryRepositoryURL(repository).
		CachePath(filepath.Join(aside, "archive")).
		BinariesPath(home).
		RuntimePath(runtime).
		DataPath(runtime + "/.").
		Logger(io.Discard)).Start()
	if err == nil {
		return errors.New("the library started a server that was not asked for")
	}
	if !strings.Contains(err.Error(), "unable to clean up data directory") {
		return err
	}
	return openUp(home)
}

// openUp lets every account read and run the files of the directory, regardless of our umask.
func openUp(dir string) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm()
		return os.Chmod(name, mode|mode>>3&0o055|mode>>6&0o005)
	})
}
