package postgres

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"
)

// target is a connection URL, read: what the driver knows of it, and what it leaves to us.
type target struct {
	cfg pq.Config
	// keepAlive is how a peer that is gone is noticed on an idle connection.
	keepAlive net.KeepAliveConfig
}

// parseURL reads a connection string in libpq's forms: a URL, which may name several hosts with a port each, or
// key=value pairs. With several hosts the one that takes writes is meant, unless target_session_attrs says otherwise.
// No error shows a password.
func parseURL(raw string) (target, error) {
	spread, err := spreadHosts(raw)
	if err != nil {
		return target{}, err
	}
	cfg, err := pq.NewConfig(spread)
	if err != nil {
		return target{}, badURL(err, spread)
	}
	if cfg.Runtime == nil {
		cfg.Runtime = map[string]string{}
	}
	if len(cfg.Multi) > 0 && cfg.TargetSessionAttrs == "" {
		cfg.TargetSessionAttrs = pq.TargetSessionAttrsReadWrite
	}
	// An idle connection whose peer is gone is noticed within 25 s, unless the URL says otherwise.
	to := target{cfg: cfg, keepAlive: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	return to, to.takeClientParameters()
}

// Address is the host and port of each server that a connection string names, without its user and password.
func Address(raw string) string {
	to, err := parseURL(raw)
	if err != nil {
		return "(unreadable)"
	}
	all := []string{net.JoinHostPort(to.cfg.Host, strconv.Itoa(int(to.cfg.Port)))}
	for _, other := range to.cfg.Multi {
		all = append(all, net.JoinHostPort(other.Host, strconv.Itoa(int(other.Port))))
	}
	return strings.Join(all, ",")
}

// spreadHosts turns a URL of several hosts into one that the driver reads: it takes the hosts of a URL without ports, and
// the ports as a parameter. Any other connection string is returned as it is.
func spreadHosts(raw string) (string, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "postgres" && scheme != "postgresql" {
		return raw, nil
	}
	authority, tail := rest, ""
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority, tail = rest[:end], rest[end:]
	}
	user, list := "", authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, list = authority[:at+1], authority[at+1:]
	}
	if !strings.Contains(list, ",") && !strings.Contains(list, "%") {
		return raw, nil
	}
	var hosts, ports []string
	for _, one := range strings.Split(list, ",") {
		host, port, err := hostPort(one)
		if err != nil {
			return "", err
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	u, err := url.Parse(scheme + "://" + user + "host" + tail)
	if err != nil {
		return "", badURL(err, raw)
	}
	u.Host = ""
	query := u.Query()
	query.Set("host", strings.Join(hosts, ","))
	if !query.Has("port") {
		query.Set("port", strings.Join(ports, ","))
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// hostPort splits one host of a URL, which may be an IPv6 address in brackets or the percent-encoded folder of a socket.
func hostPort(one string) (host, port string, err error) {
	host, port = one, "5432"
	if colon := strings.LastIndexByte(one, ':'); colon > strings.LastIndexByte(one, ']') {
		host, port = one[:colon], one[colon+1:]
	}
	host, err = url.PathUnescape(strings.Trim(host, "[]"))
	if err != nil {
		return "", "", errors.New("a host of the URL is not encoded rightly")
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return "", "", fmt.Errorf("the port of host %q must be a number from 1 to 65535", host)
	}
	return host, port, nil
}

// takeClientParameters takes out of the start-up parameters those that libpq keeps for itself: a server would refuse them.
func (t *target) takeClientParameters() error {
	for name, value := range t.cfg.Runtime {
		switch name {
		case "channel_binding", "gssencmode":
			if value == "require" {
				return fmt.Errorf("parameter %s=require is not supported; use prefer or disable", name)
			}
		case "keepalives":
			t.keepAlive.Enable = value != "0"
		case "keepalives_idle", "keepalives_interval", "keepalives_count":
			if err := t.setKeepAlive(name, value); err != nil {
				return err
			}
		case "tcp_user_timeout", "requiressl", "sslcompression", "sslcertmode", "sslcrl", "sslcrldir", "sslpassword", "requirepeer",
			"require_auth", "gssdelegation", "gsslib", "replication":
			return fmt.Errorf("parameter %s is not supported", name)
		default:
			continue // a parameter of the server
		}
		delete(t.cfg.Runtime, name)
	}
	return nil
}

// setKeepAlive reads one of libpq's numbers; 0 leaves the default.
func (t *target) setKeepAlive(name, value string) error {
	number, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return fmt.Errorf("parameter %s must be a number from 0 to 65535", name)
	}
	switch {
	case number == 0:
	case name == "keepalives_idle":
		t.keepAlive.Idle = time.Duration(number) * time.Second
	case name == "keepalives_interval":
		t.keepAlive.Interval = time.Duration(number) * time.Second
	default:
		t.keepAlive.Count = int(number)
	}
	return nil
}
