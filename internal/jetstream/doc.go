// Package jetstream carries Fanfare's messages over NATS JetStream.
package jetstream
