package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// source is the tree that a release is built from.
type source struct {
	Root    string
	Version string // SemVer without the v
	Commit  string
	Date    time.Time // of the commit
	Notes   string    // the release's section of CHANGELOG.md
}

// section is the part of CHANGELOG.md that belongs to one release. Version is empty for Unreleased.
type section struct{ Version, Text string }

// heading is a release's: `## 1.2.3 - 2026-11-29`, or `## Unreleased`.
var heading = regexp.MustCompile(`(?m)^## (?:Unreleased|(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?) - \d{4}-\d{2}-\d{2})$`)

// sections splits a changelog, the newest section first.
func sections(changelog string) (all []section) {
	found := heading.FindAllStringSubmatchIndex(changelog, -1)
	for i, m := range found {
		end := len(changelog)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		s := section{Text: strings.TrimSpace(changelog[m[1]:end])}
		if m[2] >= 0 {
			s.Version = changelog[m[2]:m[3]]
		}
		all = append(all, s)
	}
	return all
}

// current returns the version and the notes to release. The changelog decides; a tag must agree with it. Without a tag only a
// snapshot can be built: the next patch of the newest release.
func current(changelog, tag, commit string, snapshot bool) (section, error) {
	all := sections(changelog)
	if len(all) == 0 {
		return section{}, errors.New("CHANGELOG.md has no section of a release")
	}
	if tag != "" {
		for _, s := range all {
			if "v"+s.Version == tag {
				return s, nil
			}
		}
		return section{}, fmt.Errorf("CHANGELOG.md has no section for the tag %s", tag)
	}
	if !snapshot {
		return section{}, errors.New("this commit has no tag: tag it, or use -snapshot")
	}
	newest := "0.0.0"
	for _, s := range all {
		if s.Version != "" {
			newest = s.Version
			break
		}
	}
	core, _, _ := strings.Cut(newest, "-")
	var major, minor, patch int
	if _, err := fmt.Sscanf(core, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return section{}, fmt.Errorf("version %s of CHANGELOG.md: %w", newest, err)
	}
	version := fmt.Sprintf("%d.%d.%d-snapshot.%.8s", major, minor, patch+1, commit)
	return section{Version: version, Text: all[0].Text}, nil
}

// describe asks git and the changelog.
func describe(ctx context.Context, root string, snapshot bool) (source, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return source{}, err
	}
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return source{}, err
	}
	date, err := git("show", "-s", "--format=%cI", "HEAD")
	if err != nil {
		return source{}, err
	}
	at, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return source{}, err
	}
	tag, err := git("tag", "--points-at", "HEAD", "--list", "v*")
	if err != nil {
		return source{}, err
	}
	if strings.Contains(tag, "\n") {
		return source{}, fmt.Errorf("this commit has several tags: %s", strings.ReplaceAll(tag, "\n", ", "))
	}
	if changed, err := git("status", "--porcelain"); err != nil || (changed != "" && !snapshot) {
		return source{}, errors.Join(err, errors.New("uncommitted changes: commit them, or use -snapshot"))
	}
	changelog, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return source{}, err
	}
	s, err := current(string(changelog), tag, commit, snapshot)
	if err != nil {
		return source{}, err
	}
	return source{Root: root, Version: s.Version, Commit: commit, Date: at.UTC(), Notes: s.Text + "\n"}, nil
}
