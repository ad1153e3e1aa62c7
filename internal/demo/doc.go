// Package demo shows a running Fanfare at work: where it can be reached comes in, a few hundred events go through it to
// endpoints that work, fail twice or never work, and a summary goes out that must add up.
package demo
