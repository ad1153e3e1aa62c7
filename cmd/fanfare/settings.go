package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// settings are those of every package, composed; each package owns its own.
type settings struct {
	server   serverConfig
	log      logConfig
	nats     jetstream.Config
	access   access.Config
	proxies  api.ProxyConfig
	limits   quota.Config
	egress   egress.Config
	ingest   ingest.Config
	fanout   fanout.Config
	deliver  deliver.Config
	dialects vendors.Config
	retain   postgres.RetentionConfig
}

// serverConfig is what belongs to the process and to no stage.
type serverConfig struct {
	Addr    string `envconfig:"ADDR" default:"127.0.0.1:8080" desc:"where the API is served"`
	OpsAddr string `envconfig:"OPS_ADDR" default:"127.0.0.1:9464" desc:"where /healthz, /readyz and /metrics are served, without a key"`
	// ShutdownDelay is nil where it is not set.
	ShutdownDelay    *time.Duration `envconfig:"SHUTDOWN_DELAY" desc:"how long the API is still served after SIGTERM, while /readyz says stopping, so that load balancers notice (empty: 5s, or none on a terminal)"`
	OpsPprof         bool           `envconfig:"OPS_PPROF" default:"false" desc:"serve Go's profiles at /debug/pprof of FANFARE_OPS_ADDR"`
	DataDir          string         `envconfig:"DATA_DIR" default:"./fanfare-data" desc:"what all keeps: the embedded NATS, the private Postgres, the first keys"`
	DiskReserve      int64          `envconfig:"DISK_RESERVE" default:"1073741824" desc:"bytes of the volume of FANFARE_DATA_DIR that stay free: with less, all refuses new events (503); at most a twentieth of the volume; 0: none"`
	NATSListen       string         `envconfig:"NATS_LISTEN" default:"127.0.0.1:4222" desc:"where the embedded NATS takes publishers of this machine; off: nowhere"`
	NATSLocalPublish string         `envconfig:"NATS_LOCAL_PUBLISH" default:"on" desc:"whether clients of this machine may publish events to the embedded NATS without credentials (and nothing else); off: they need those of nats.key in FANFARE_DATA_DIR"`
	EmptyDatabase    string         `envconfig:"EMPTY_DATABASE" default:"refuse" desc:"refuse or accept to start with an empty database where NATS shows that events were matched before"`
	Strict           bool           `envconfig:"STRICT" default:"false" desc:"refuse FANFARE_ variables that are no setting, instead of warning of them"`
	StreamReplicas   int            `envconfig:"STREAM_REPLICAS" default:"1" desc:"how many servers of a NATS cluster hold each stream; set it before topology apply"`
	PostgresURL      string         `envconfig:"POSTGRES_URL" secret:"true" desc:"connection URL of Postgres; empty starts a private one in all"`
	PostgresMaxConns int            `envconfig:"POSTGRES_MAX_CONNS" default:"16" desc:"connections that one process opens at most"`
	SecretKeys       string         `envconfig:"SECRET_KEYS" secret:"true" desc:"keys that encrypt secrets at rest, id:base64,id:base64: the first encrypts, all decrypt; all makes one"`
}

// Validate names the variable that is wrong.
func (c serverConfig) Validate() error {
	for name, addr := range map[string]string{"ADDR": c.Addr, "OPS_ADDR": c.OpsAddr} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%s_%s is %q, which is no host:port: %w", envPrefix, name, addr, err)
		}
	}
	switch {
	case c.shutdownDelay() < 0 || c.shutdownDelay() > time.Minute:
		return fmt.Errorf("FANFARE_SHUTDOWN_DELAY must be 0s to 1m, not %s", c.shutdownDelay())
	case c.EmptyDatabase != "" && c.EmptyDatabase != "refuse" && c.EmptyDatabase != acceptEmpty:
		return fmt.Errorf("FANFARE_EMPTY_DATABASE must be refuse or accept, not %q", c.EmptyDatabase)
	case c.NATSLocalPublish != "on" && c.NATSLocalPublish != "off":
		return fmt.Errorf("FANFARE_NATS_LOCAL_PUBLISH must be on or off, not %q", c.NATSLocalPublish)
	case c.DiskReserve < 0:
		return fmt.Errorf("FANFARE_DISK_RESERVE must be 0 or more, not %d", c.DiskReserve)
	case c.StreamReplicas < 1 || c.StreamReplicas > 5:
		return fmt.Errorf("FANFARE_STREAM_REPLICAS must be 1 to 5, not %d", c.StreamReplicas)
	case c.PostgresMaxConns < 4:
		return fmt.Errorf("FANFARE_POSTGRES_MAX_CONNS must be 4 or more, not %d", c.PostgresMaxConns)
	}
	return nil
}

// acceptEmpty is the value of FANFARE_EMPTY_DATABASE that begins anew.
const acceptEmpty = "accept"

// defaultShutdownDelay is longer than the interval of a readiness probe.
const defaultShutdownDelay = 5 * time.Second

func (c serverConfig) shutdownDelay() time.Duration {
	switch {
	case c.ShutdownDelay != nil:
		return *c.ShutdownDelay
	case onTerminal():
		return 0 // Somebody pressed Ctrl-C and waits.
	default:
		return defaultShutdownDelay
	}
}

// onTerminal says whether somebody started the process by hand.
func onTerminal() bool { return term.IsTerminal(int(os.Stdin.Fd())) }

// newSettings are those of an empty environment.
func newSettings() *settings { return &settings{} }

// sections lists them as `fanfare config` does.
func (s *settings) sections() []section {
	return []section{
		{"server", &s.server}, {"logging", &s.log}, {"NATS", &s.nats}, {"access", &s.access}, {"proxies", &s.proxies}, {"limits", &s.limits}, {"egress", &s.egress},
		{"ingest", &s.ingest}, {"fanout", &s.fanout}, {"deliver", &s.deliver}, {"dialects", &s.dialects}, {"retention", &s.retain},
	}
}

// readSettings reads and validates the environment.
func readSettings() (*settings, error) {
	s := newSettings()
	if err := readEnvironment(s.sections()); err != nil {
		return nil, err
	}
	if err := s.agree(); err != nil {
		return nil, err
	}
	return s, nil
}

// agree refuses settings that do not go together.
func (s *settings) agree() error {
	// An audit takes what the stream has and the ledger has not for lost.
	if least := s.fanout.EventsMaxAge + 24*time.Hour; s.retain.Events < least {
		return fmt.Errorf("FANFARE_KEEP_EVENTS must be %s or more, a day longer than FANFARE_EVENTS_MAX_AGE and than the EVENTS stream keeps events", least)
	}
	return nil
}

// drainTimeout is how long a process has to stop in: work in flight is finished or handed back by then.
const drainTimeout = 30 * time.Second

// needExternal refuses a role of its own that has nothing to share with the others.
func (s *settings) needExternal(role string) error {
	var errs []error
	for name, value := range map[string]string{
		"NATS_URL": s.nats.URL, "POSTGRES_URL": s.server.PostgresURL, "SECRET_KEYS": s.server.SecretKeys,
	} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s_%s is not set: fanfare %s shares it with the other roles (fanfare all brings its own)",
				envPrefix, name, role))
		}
	}
	return errors.Join(errs...)
}
