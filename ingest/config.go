package ingest

import (
	"fmt"
	"time"
)

// Config is what an operator may set of ingest. How large an event may be and which types there are is in
// fanout.Config, as events that come straight from NATS are bound by it too.
type Config struct {
	MaxEvents  int           `envconfig:"INGEST_MAX_EVENTS" default:"1000" desc:"the most events of one request"`
	MaxBytes   int64         `envconfig:"INGEST_MAX_BYTES" default:"4194304" desc:"the most bytes of one request"`
	Memory     int64         `envconfig:"INGEST_MEMORY" default:"268435456" desc:"bytes that requests under way may take together, about, and a tenant a quarter of them; further ones wait"`
	MaxWaiting int           `envconfig:"INGEST_MAX_WAITING" default:"1024" desc:"how many requests may wait, and a quarter of them of a tenant; further ones get 503"`
	Timeout    time.Duration `envconfig:"INGEST_TIMEOUT" default:"4s" desc:"how long a request may wait for its turn, Postgres and the broker before it gets 503"`
}

// DefaultConfig is the configuration of an empty environment.
func DefaultConfig() Config {
	return Config{MaxEvents: 1000, MaxBytes: 4 << 20, Memory: 256 << 20, MaxWaiting: 1024, Timeout: 4 * time.Second}
}

// Validate names the first variable that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.MaxEvents < 1:
		return fmt.Errorf("FANFARE_INGEST_MAX_EVENTS must be 1 or more, not %d", c.MaxEvents)
	case c.MaxBytes < 1:
		return fmt.Errorf("FANFARE_INGEST_MAX_BYTES must be 1 or more, not %d", c.MaxBytes)
	case c.Memory < shares*weight(c.MaxBytes):
		return fmt.Errorf("FANFARE_INGEST_MEMORY must be %d or more for requests of %d bytes, of which a tenant has a quarter, not %d",
			shares*weight(c.MaxBytes), c.MaxBytes, c.Memory)
	case c.MaxWaiting < 0:
		return fmt.Errorf("FANFARE_INGEST_MAX_WAITING must not be negative, not %d", c.MaxWaiting)
	case c.Timeout <= 0:
		return fmt.Errorf("FANFARE_INGEST_TIMEOUT must be positive, not %s", c.Timeout)
	}
	return nil
}
