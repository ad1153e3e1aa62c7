// Package keyring checks the key ring of a process against its deployment, and keeps the secrets of the whole deployment.
//
// In comes the ring of internal/seal. Out go its check, at a start, and secrets such as the one that hashes API keys: rows of
// deployment_secrets, sealed with the ring.
//
// It promises that a process whose ring has other bytes under an id than the processes before it does not start (a canary for
// each id, sealed with that key), and that keys derived from a deployment's secret do not change when the ring is rotated.
// Rekey seals the rows with the ring's first key; then older keys may go.
//
// Without Postgres every call fails. It starts nothing, so there is nothing to stop.
package keyring
