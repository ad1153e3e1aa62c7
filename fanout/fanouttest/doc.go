// Package fanouttest gives the tests of fan-out, replays and audits a House: published events come in through a real
// broker and a real database, and the tasks that fan-out hands over lie in a Tray.
package fanouttest
