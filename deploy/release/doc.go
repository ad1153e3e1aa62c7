// Command release makes the artifacts of a release: static binaries, archives, packages, a Homebrew formula, a bill of
// materials for each binary, a container image and the checksums of all of them. `make release` runs it.
//
// In come the sources, CHANGELOG.md and git's tag; out goes the folder dist. It needs the Go tool and its module cache, no
// container engine, no registry and no network. The same commit gives the same bytes: every time stamp is the commit's. It is a
// module of its own, so that its libraries never become dependencies of Fanfare. Any error ends it; what it wrote until then is
// of no use.
package main
