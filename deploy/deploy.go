// Package deploy holds what Fanfare is run with: container images, settings of NATS and Postgres, and the
// files that the binary itself carries.
//
// Nothing comes in and nothing goes out: the package is files. It imports nothing of ours, has no dependency
// that could fail and nothing to stop. topology.json is written by `make generate` and checked by a test.
package deploy

import _ "embed" // for the files below

// DemoEvents are what `fanfare demo` publishes: one event a line, as POST /v1/events takes them.
//
//go:embed demo/events.ndjson
var DemoEvents []byte
