package jetstream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Config says where NATS is.
type Config struct {
	// URL lists the servers, comma-separated; empty: the embedded one.
	URL string `envconfig:"NATS_URL" desc:"NATS servers, comma-separated; empty starts one in this process"`
	// Creds is the path of a credentials file (.creds); empty: none.
	Creds string `envconfig:"NATS_CREDS" desc:"path of a NATS credentials file"`
}

// Options are those that Connect needs to connect as this configuration says.
func (c Config) Options() []nats.Option {
	if c.Creds == "" {
		return nil
	}
	return []nats.Option{nats.UserCredentials(c.Creds)}
}

// Connect connects to NATS and stays connected.
func Connect(ctx context.Context, url string, opts ...nats.Option) (*nats.Conn, error) {
	return nil, errors.ErrUnsupported
}

// Durability says whether an acknowledged message survives a power cut.
func Durability(ctx context.Context, nc *nats.Conn, js natsjs.JetStream) (synced bool, detail string, err error) {
	return false, "", errors.ErrUnsupported
}
