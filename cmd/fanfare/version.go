package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/fanfarehq/fanfare/internal/terminal"
)

// A release sets these with -ldflags -X; see deploy/release.
var (
	releaseVersion string // SemVer without the v
	releaseCommit  string
	releaseDate    string // of the commit, RFC 3339
)

type versionCmd struct {
	JSON bool `name:"json" help:"Print version, commit, date, Go version and platform as JSON."`
}

// stamp is the answer of `fanfare version --json`.
type stamp struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // empty if the build does not know it
	Date    string `json:"date"`   // of the commit; empty likewise
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Run prints the version.
func (v versionCmd) Run(c *terminal.Terminal) error {
	b := thisBuild()
	if v.JSON {
		return json.NewEncoder(c.Out).Encode(b)
	}
	_, err := fmt.Fprintf(c.Out, "fanfare %s, %s, %s/%s\n", b.Version, b.Go, b.OS, b.Arch)
	return err
}

// version is that of this build.
func version() string { return thisBuild().Version }

// thisBuild prefers the values that a release has set, and falls back to those that the Go tool recorded.
func thisBuild() stamp {
	b := stamp{
		Version: releaseVersion, Commit: releaseCommit, Date: releaseDate,
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && b.Commit == "":
				b.Commit = s.Value
			case s.Key == "vcs.time" && b.Date == "":
				b.Date = s.Value
			}
		}
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
	}
	if b.Version == "" {
		b.Version = "devel"
		if len(b.Commit) >= 12 {
			b.Version += "-" + b.Commit[:12]
		}
	}
	return b
}
