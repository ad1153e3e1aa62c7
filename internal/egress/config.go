package egress

import (
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Config tunes the client. A zero field takes the default.
type Config struct {
	AllowPrivateCIDRs string `envconfig:"ALLOW_PRIVATE_CIDRS" desc:"private ranges that requests may reach, e.g. 10.0.0.0/8,127.0.0.0/8"`
	DenyCIDRs         string `envconfig:"DENY_CIDRS" desc:"ranges that requests may never reach, e.g. the public addresses of this installation, so that no webhook comes back to it"`
	ProxyURL          string `envconfig:"EGRESS_PROXY" secret:"true" desc:"http or https URL of a proxy for all outgoing requests, which must judge addresses itself (empty: none; HTTP_PROXY is ignored)"`
	HTTP2             bool   `envconfig:"EGRESS_HTTP2" default:"true" desc:"speak HTTP/2 to receivers that offer it over TLS"`

	DialTimeout         time.Duration `envconfig:"EGRESS_DIAL_TIMEOUT" default:"10s" desc:"how long resolving a name and connecting may take"`
	TLSHandshakeTimeout time.Duration `envconfig:"EGRESS_TLS_HANDSHAKE_TIMEOUT" default:"10s" desc:"how long the TLS handshake may take"`
	IdleConnTimeout     time.Duration `envconfig:"EGRESS_IDLE_CONN_TIMEOUT" default:"90s" desc:"how long an unused connection is kept"`
	MaxConnAge          time.Duration `envconfig:"EGRESS_MAX_CONN_AGE" default:"5m" desc:"how long a connection serves new requests, shortened by up to a fifth at random; then the receiver's name is resolved again"`
	MaxIdleConns        int           `envconfig:"EGRESS_MAX_IDLE_CONNS" default:"8192" desc:"unused connections kept over all receivers, as many of HTTP/1.1 for bodies of up to 32 KiB as of all other kinds; one file descriptor each"`
	MaxIdleConnsPerHost int           `envconfig:"EGRESS_MAX_IDLE_CONNS_PER_HOST" default:"256" desc:"unused connections that a tenant keeps to one receiver"`
}

// DefaultConfig is that of an empty environment.
func DefaultConfig() Config {
	return Config{
		HTTP2:               true,
		DialTimeout:         10 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		MaxConnAge:          5 * time.Minute,
		MaxIdleConns:        8192,
		MaxIdleConnsPerHost: 256,
	}
}

// Validate names the variable that is wrong.
func (c Config) Validate() error {
	var errs []error
	if _, err := c.Policy(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.proxy(); err != nil {
		errs = append(errs, fmt.Errorf("FANFARE_EGRESS_PROXY: %w", err))
	}
	for name, d := range map[string]time.Duration{
		"DIAL_TIMEOUT": c.DialTimeout, "TLS_HANDSHAKE_TIMEOUT": c.TLSHandshakeTimeout, "IDLE_CONN_TIMEOUT": c.IdleConnTimeout,
		"MAX_CONN_AGE": c.MaxConnAge,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("FANFARE_EGRESS_%s: must not be negative", name))
		}
	}
	if c.MaxIdleConns < 0 || c.MaxIdleConnsPerHost < 0 {
		errs = append(errs, errors.New("FANFARE_EGRESS_MAX_IDLE_CONNS and FANFARE_EGRESS_MAX_IDLE_CONNS_PER_HOST: must not be negative"))
	}
	return errors.Join(errs...)
}

// proxy is nil where none is set. Its errors do not repeat the URL, which may hold a password.
func (c Config) proxy() (*url.URL, error) {
	if c.ProxyURL == "" {
		return nil, nil
	}
	u, err := url.Parse(c.ProxyURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("must be an http or https URL")
	}
	return u, nil
}

// Policy is what the configuration allows. Its error names the variable that is wrong.
func (c Config) Policy() (p Policy, err error) {
	if p.AllowPrivate, err = parsePrefixes(c.AllowPrivateCIDRs); err != nil {
		return Policy{}, fmt.Errorf("FANFARE_ALLOW_PRIVATE_CIDRS: %w", err)
	}
	if p.Deny, err = parsePrefixes(c.DenyCIDRs); err != nil {
		return Policy{}, fmt.Errorf("FANFARE_DENY_CIDRS: %w", err)
	}
	return p, nil
}

// withDefaults fills the zero fields.
func (c Config) withDefaults() Config {
	d := DefaultConfig()
	fill := func(field *time.Duration, value time.Duration) {
		if *field <= 0 {
			*field = value
		}
	}
	fill(&c.DialTimeout, d.DialTimeout)
	fill(&c.TLSHandshakeTimeout, d.TLSHandshakeTimeout)
	fill(&c.IdleConnTimeout, d.IdleConnTimeout)
	fill(&c.MaxConnAge, d.MaxConnAge)
	if c.MaxIdleConns <= 0 {
		c.MaxIdleConns = d.MaxIdleConns
	}
	if c.MaxIdleConnsPerHost <= 0 {
		c.MaxIdleConnsPerHost = d.MaxIdleConnsPerHost
	}
	return c
}
