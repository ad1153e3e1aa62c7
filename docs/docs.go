// Package docs holds the guides.
//
// In comes nothing and out go files: Markdown that GitHub shows and that internal/api serves at /docs/guides/. Their
// commands and links are run and checked by the tests of cmd/fanfare. The package has no dependency and nothing to stop.
package docs

import "embed"

// Guides are the Markdown files of this folder, README.md first among them.
//
//go:embed *.md decisions/*.md
var Guides embed.FS
