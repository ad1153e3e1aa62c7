package fanout

import (
	"fmt"
	"time"
)

// Config is what an operator may set of events and of fan-out. Ingest judges events by the same rules, so its
// process reads these as well.
type Config struct {
	EventTypes     string        `envconfig:"EVENT_TYPES" default:"open" desc:"open takes events of any type, strict only of types that were declared"`
	MaxData        int           `envconfig:"EVENT_MAX_DATA" default:"262144" desc:"the most bytes of an event's data; at most 786432, as NATS takes 1 MiB a message"`
	EventsMaxAge   time.Duration `envconfig:"EVENTS_MAX_AGE" default:"168h" desc:"how long the stream keeps events; not shorter than the retry schedule"`
	EventsMaxBytes int64         `envconfig:"EVENTS_MAX_BYTES" default:"10737418240" desc:"how many bytes of events the stream holds at most; beyond half of it settled events leave, oldest first; when events that are not settled fill it, publishing answers 503"`
	MaxInFlight    int           `envconfig:"FANOUT_MAX_IN_FLIGHT" default:"1024" desc:"how many events one process matches at once; at most 4096"`
	DrainTimeout   time.Duration `envconfig:"FANOUT_DRAIN_TIMEOUT" default:"20s" desc:"how long events in flight may take at shutdown before they are handed back"`
}

// The values of Config.EventTypes.
const (
	Open   = "open"
	Strict = "strict"
)

// mostData is the largest MaxData: with its headers, and packed as a task, the event still is a message of NATS.
const mostData = 768 << 10

// DefaultConfig is the configuration of an empty environment.
func DefaultConfig() Config {
	return Config{
		EventTypes: Open, MaxData: 256 << 10, EventsMaxAge: 7 * 24 * time.Hour, EventsMaxBytes: 10 << 30,
		MaxInFlight: 1024, DrainTimeout: 20 * time.Second,
	}
}

// Validate names the first variable that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.EventTypes != Open && c.EventTypes != Strict:
		return fmt.Errorf("FANFARE_EVENT_TYPES must be %s or %s, not %q", Open, Strict, c.EventTypes)
	case c.MaxData < 1 || c.MaxData > mostData:
		return fmt.Errorf("FANFARE_EVENT_MAX_DATA must be 1 to 786432, not %d", c.MaxData)
	case c.EventsMaxAge < time.Hour:
		return fmt.Errorf("FANFARE_EVENTS_MAX_AGE must be 1h or more, not %s", c.EventsMaxAge)
	case c.EventsMaxBytes < 1<<20:
		return fmt.Errorf("FANFARE_EVENTS_MAX_BYTES must be 1048576 or more, not %d", c.EventsMaxBytes)
	case c.MaxInFlight < 1 || c.MaxInFlight > maxInFlight:
		return fmt.Errorf("FANFARE_FANOUT_MAX_IN_FLIGHT must be 1 to %d, not %d", maxInFlight, c.MaxInFlight)
	case c.DrainTimeout < 0:
		return fmt.Errorf("FANFARE_FANOUT_DRAIN_TIMEOUT must not be negative, not %s", c.DrainTimeout)
	}
	return nil
}
