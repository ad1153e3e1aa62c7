// Package cbor takes in values and gives out CBOR (RFC 8949, its deterministic encoding), and reads it back: the messages of
// TASKS and ATTEMPTS and the stored events.
//
// A message is an array of a version and its items. Fields may be added within a version: readers skip those that they do
// not know. A reader keeps its first error, returns zero values after it, and never uses more memory than a few times
// the message's own bytes.
//
// It is written by hand, since reflection would cost each delivery a quarter of its POST.
package cbor
