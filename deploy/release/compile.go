package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// platform is what a binary runs on, in the words of Go.
type platform struct{ OS, Arch string }

func (p platform) String() string { return p.OS + "/" + p.Arch }

// platforms are those that Fanfare runs on. On Windows it has no private Postgres.
var platforms = []platform{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"},
}

// program is the file name of the binary.
func (p platform) program() string {
	if p.OS == "windows" {
		return "fanfare.exe"
	}
	return "fanfare"
}

// binary is a built fanfare.
type binary struct {
	platform
	Path string
}

// compile builds a static binary that knows its version, commit and date.
func compile(ctx context.Context, of source, p platform, dir string) (binary, error) {
	b := binary{p, filepath.Join(dir, p.program())}
	path, err := filepath.Abs(b.Path)
	if err != nil {
		return b, err
	}
	flags := fmt.Sprintf("-s -w -X main.releaseVersion=%s -X main.releaseCommit=%s -X main.releaseDate=%s",
		of.Version, of.Commit, of.Date.Format(time.RFC3339))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", path, "./cmd/fanfare")
	cmd.Dir = of.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return b, fmt.Errorf("build %s: %w\n%s", p, err, out)
	}
	return b, nil
}
