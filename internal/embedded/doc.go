// Package embedded runs the two servers that Fanfare stands on, for `fanfare all` and for tests: NATS with
// JetStream in this process, and a private Postgres as its child.
//
// In come a data directory and, for NATS, an address of loopback. NATS keeps its streams in nats/, Postgres its
// cluster, socket and log in postgres/. The Postgres programs are those of the machine, or are downloaded once.
//
// Out go a connection within the process (NATS.Connect) and URLs. NATS asks for no credentials, so it listens on
// loopback only. Postgres trusts whoever reaches its socket, which lies in a directory of its own account; it has no port.
//
// It promises what design.md calls "accepted means on disk": with SyncAlways every write of a stream is synced before it is
// acknowledged, and Postgres syncs every commit. One process at a time uses a directory: a second one gets ErrLocked. Root
// need not be avoided: Postgres then runs as the user postgres or nobody, with one capability to pass through private
// directories if that is needed, and none otherwise.
//
// When a server cannot start, the error says why and what to do: another port, directory or Postgres, by the name of the
// variable; that of Postgres holds the end of its log. When Postgres ends by itself, Done is closed, and Supervise starts it
// again; connections fail meanwhile. When the disk is full, NATS refuses to publish and Postgres to write; both go on when
// there is room.
//
// They stop by Shutdown and Stop, which return when everything is written; Stop within 30 s. When this process is killed
// instead, NATS is gone with it, and the kernel tells Postgres to shut down (on Linux; elsewhere the next start does).
package embedded
