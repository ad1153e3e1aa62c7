package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// Config says where NATS is, and how a process proves who it is. Its files are of NATS alone: what webhooks trust is set elsewhere.
type Config struct {
	// URL lists the servers, comma-separated, with tls:// and credentials where they need them. Credentials of the first count
	// for all that have none of their own.
	URL string `envconfig:"NATS_URL" secret:"true" desc:"the NATS servers, comma-separated; credentials in the first count for all; empty: one within this process"`
	// Creds is the path of a credentials file.
	Creds string `envconfig:"NATS_CREDS" desc:"path of a NATS credentials file (.creds); empty: none"`
	// NKey is the path of a file that holds an nkey seed.
	NKey string `envconfig:"NATS_NKEY" desc:"path of a file with the seed of an nkey; empty: none"`
	// CA is the path of PEM certificates that sign those of the servers, instead of the system's.
	CA string `envconfig:"NATS_CA" desc:"path of the CA certificates (PEM) that NATS is checked by, which webhooks do not trust; empty: those of the system"`
	// ClientCert and ClientKey are the paths of a certificate and its key, both in PEM.
	ClientCert string `envconfig:"NATS_CLIENT_CERT" desc:"path of the client certificate (PEM) for NATS; empty: none"`
	ClientKey  string `envconfig:"NATS_CLIENT_KEY" desc:"path of the key (PEM) of FANFARE_NATS_CLIENT_CERT"`
}

// Validate names the variable that is wrong.
func (c Config) Validate() error {
	switch {
	case (c.ClientCert == "") != (c.ClientKey == ""):
		return errors.New("FANFARE_NATS_CLIENT_CERT and FANFARE_NATS_CLIENT_KEY must be set together")
	case c.Creds != "" && c.NKey != "":
		return errors.New("FANFARE_NATS_CREDS and FANFARE_NATS_NKEY must not be set together")
	default:
		return nil
	}
}

// Options are those that a connection needs beside the URL. A file that cannot be read is an error that names its setting; later
// connections read the files again.
func (c Config) Options() (opts []nats.Option, err error) {
	for variable, path := range map[string]string{
		"FANFARE_NATS_CREDS": c.Creds, "FANFARE_NATS_NKEY": c.NKey, "FANFARE_NATS_CA": c.CA,
	} {
		if path == "" {
			continue
		}
		if _, err := os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("%s: %w", variable, err)
		}
	}
	if c.Creds != "" {
		opts = append(opts, nats.UserCredentials(c.Creds))
	}
	if c.NKey != "" {
		key, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("FANFARE_NATS_NKEY: %w", err)
		}
		opts = append(opts, key)
	}
	if c.CA != "" {
		opts = append(opts, nats.RootCAs(c.CA))
	}
	if c.ClientCert != "" {
		if _, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey); err != nil {
			return nil, fmt.Errorf("FANFARE_NATS_CLIENT_CERT, FANFARE_NATS_CLIENT_KEY: %w", err)
		}
		opts = append(opts, nats.ClientCert(c.ClientCert, c.ClientKey))
	}
	return opts, nil
}

// sharedCredentials are those of the first URL that has some. They count for URLs without any, and for servers of the cluster that no
// URL names: otherwise a connection could not move to them.
func sharedCredentials(urls string) []nats.Option {
	for text := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.User == nil {
			continue
		}
		if password, ok := u.User.Password(); ok {
			return []nats.Option{nats.UserInfo(u.User.Username(), password)}
		}
		return []nats.Option{nats.Token(u.User.Username())}
	}
	return nil
}

// Connect connects to the servers of the settings and keeps the connection, with the settings of Steady and then opts. At first
// it tries until ctx ends, unless the error is one that waiting cannot cure, such as credentials that are refused. Report is
// called with the reason of each failed try; nil is not.
func (c Config) Connect(ctx context.Context, report func(error), opts ...nats.Option) (*nats.Conn, error) {
	own, err := c.Options()
	if err != nil {
		return nil, err
	}
	opts = slices.Concat([]nats.Option{Steady}, sharedCredentials(c.URL), own, opts)
	for pause := (backOff{}); ; {
		nc, err := nats.Connect(c.URL, opts...)
		if err == nil {
			return nc, nil
		}
		if !curable(err) {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
		if report != nil {
			report(err)
		}
		if !pause.wait(ctx) {
			return nil, fmt.Errorf("connect to NATS: %w (%w)", err, context.Cause(ctx))
		}
	}
}

// curable says whether the same servers may accept a later try: they are away, starting or full. A refusal of credentials or of a
// certificate is not curable.
func curable(err error) bool {
	for _, away := range []error{
		nats.ErrNoServers, nats.ErrTimeout, nats.ErrMaxConnectionsExceeded, nats.ErrConnectionClosed, nats.ErrStaleConnection,
		io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, net.ErrClosed,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return false // a TLS alert: the server refuses our certificate, or its absence
	}
	_, network := errors.AsType[net.Error](err)
	_, system := errors.AsType[syscall.Errno](err)
	return network || system
}

// Steady is the option of a connection that comes back whatever happens, and that notices within 20 s when the other
// side vanished without a word.
func Steady(o *nats.Options) error {
	o.Name = "fanfare"
	o.MaxReconnect = -1
	o.ReconnectWait = 500 * time.Millisecond
	o.PingInterval = 10 * time.Second
	o.MaxPingsOut = 2
	// Credentials may be refused while an account server is away; they are tried again like all else.
	o.IgnoreAuthErrorAbort = true
	return Lean(o)
}

// Lean is the option of a connection that makes little garbage: each read of many messages makes room for so many, and the
// default, 65,536, is half a megabyte.
func Lean(o *nats.Options) error {
	o.SubChanLen = 4096
	return nil
}

// Log is the option of a connection that logs what becomes of it, instead of printing errors to the console.
func Log(log *slog.Logger) nats.Option {
	return func(o *nats.Options) error {
		o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "error", err)
			}
		}
		o.ReconnectedCB = func(nc *nats.Conn) {
			log.Info("connection to NATS is back", "server", nc.ConnectedUrlRedacted())
		}
		o.AsyncErrorCB = func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS reported an error", "subject", subject, "error", err)
		}
		return nil
	}
}
