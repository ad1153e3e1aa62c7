package embedded

import "log/slog"

// PostgresConfig says where the private Postgres keeps its data.
type PostgresConfig struct {
	// Dir is the data directory; all of Postgres lies in Dir/postgres: data, socket and log.
	Dir string
	// Settings override or add to the server's own, such as {"fsync": "off"}.
	Settings map[string]string
	// Throwaway leaves out the syncing of a fresh cluster to the disk. For tests.
	Throwaway bool
	// Logger hears of what takes long or is unusual; nil means nothing is logged. The server's own log is a
	// file.
	Logger *slog.Logger
}
