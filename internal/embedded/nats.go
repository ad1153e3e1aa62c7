package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// NATSConfig says where the embedded NATS server keeps its streams and which clients may reach it.
type NATSConfig struct {
	// Dir is the data directory; the server's files lie in Dir/nats.
	Dir string
	// Listen is a loopback address such as "127.0.0.1:4222", where publishers of this machine connect; port 0
	// takes a free one. "off" or empty: nobody but this process can connect.
	Listen string
	// LocalPublish lets clients without credentials publish events, and nothing else.
	LocalPublish bool
	// SyncAlways syncs every write to the disk before it is acknowledged. Without it, a power cut loses up
	// to two minutes of accepted messages.
	SyncAlways bool
	// Logger receives what the server has to say; nil means nothing is logged.
	Logger *slog.Logger
}

const (
	// maxPayload is the default of every NATS server, so that what works with this one works with any. The
	// largest message of ours is far below: a task of one event of 256 KiB with 64 targets, or a pack of 512 KiB.
	maxPayload = 1 << 20
	// maxMemory bounds memory streams, of which Fanfare has none.
	maxMemory = 16 << 20
	// startTimeout bounds the recovery of the streams at a start: 1 GiB takes about a second.
	startTimeout = 2 * time.Minute
)

// NATS is a NATS server with JetStream in this process.
type NATS struct {
	opts *server.Options
	log  *natsLogger
	lock *dirLock
	key  string
	open bool // to publishers without credentials

	mu      sync.Mutex
	server  *server.Server // another one after a restart
	staging string         // the directory in memory where batches are staged; empty until there is one
}

// StartNATS starts a server and returns once it takes connections and its streams are recovered.
func StartNATS(cfg NATSConfig) (*NATS, error) {
	dir := filepath.Join(cfg.Dir, "nats")
	opts := &server.Options{
		ServerName:             "fanfare",
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             cfg.SyncAlways,
		JetStreamMaxMemory:     maxMemory,
		MaxPayload:             maxPayload,
		DontListen:             true,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
	}
	if err := listenOn(opts, cfg.Listen); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	n := &NATS{opts: opts, log: newNATSLogger(cfg.Logger), lock: lock, open: cfg.LocalPublish}
	if n.key, err = natsKey(cfg.Dir); err == nil {
		opts.JetStreamMaxStore, err = storeLimit(dir)
	}
	if err == nil {
		err = n.start()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return n, nil
}

// start starts a server.
func (n *NATS) start() error {
	door := &doorman{key: n.key, open: n.open, ready: make(chan struct{})}
	n.opts.CustomClientAuthentication = door
	before := n.staged()
	s, err := server.NewServer(n.opts)
	if err != nil {
		return fmt.Errorf("configure the embedded NATS: %w", err)
	}
	s.SetLoggerV2(n.log, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startTimeout) || !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("start the embedded NATS: %w", n.log.reason())
	}
	// The server has completed the batches that a former one left, and removed the links.
	n.mu.Lock()
	n.staging = ""
	n.mu.Unlock()
	unstage(before...)
	err = n.StageInMemory()
	if err == nil {
		err = door.admit(s)
	}
	if err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return err
	}
	if at, ok := s.Addr().(*net.TCPAddr); ok {
		n.opts.Port = at.Port // the same one after a restart
	}
	n.mu.Lock()
	n.server = s
	n.mu.Unlock()
	return nil
}

// current returns the server that runs, or ran last.
func (n *NATS) current() *server.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server
}

// listenOn sets the listener, after a look at whether the address can be had at all.
func listenOn(opts *server.Options, listen string) error {
	if listen == "" || listen == "off" {
		return nil
	}
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("FANFARE_NATS_LISTEN %q is no host:port (nor \"off\"): %w", listen, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("FANFARE_NATS_LISTEN %q: %q is no port number", listen, portText)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("FANFARE_NATS_LISTEN %q is not on loopback: the embedded NATS speaks no TLS; "+
			"run a NATS server of your own and set FANFARE_NATS_URL", listen)
	}
	probe, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("FANFARE_NATS_LISTEN %q cannot be listened on; "+
			"is another NATS running? Choose another port, or \"off\": %w", listen, err)
	}
	if err := probe.Close(); err != nil {
		return fmt.Errorf("close the probe of %s: %w", listen, err)
	}
	opts.DontListen, opts.Host, opts.Port = false, host, int(port)
	if port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	return nil
}

// AdminURL is ClientURL with the credentials that may do everything.
func (n *NATS) AdminURL() string {
	at := n.current().Addr()
	if at == nil {
		return ""
	}
	return (&url.URL{Scheme: "nats", Host: at.String(), User: url.UserPassword(natsUser, n.key)}).String()
}

// ClientURL is where clients of this machine connect; empty when the server does not listen. Without credentials they may
// publish, if LocalPublish says so.
func (n *NATS) ClientURL() string {
	if at := n.current().Addr(); at != nil {
		return "nats://" + at.String()
	}
	return ""
}

// Connect connects within the process, without a socket. The connection comes back by itself when the server is restarted.
func (n *NATS) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append([]nats.Option{nats.InProcessServer(n), nats.UserInfo(natsUser, n.key)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS: %w", err)
	}
	return nc, nil
}

// InProcessConn is for nats.go, which asks for it at each connect.
func (n *NATS) InProcessConn() (net.Conn, error) { return n.current().InProcessConn() }

// JetStreamConfig returns the settings of JetStream; nil while it is off.
func (n *NATS) JetStreamConfig() *server.JetStreamConfig { return n.current().JetStreamConfig() }

// MaxStore is how many bytes all streams together may reserve: 70 % of the space that the volume had free at
// the first start. It never sinks. A stream that would reserve more cannot be made.
func (n *NATS) MaxStore() int64 { return n.opts.JetStreamMaxStore }

// Shutdown stops the server and returns once all is written and closed. Calling it again does nothing.
func (n *NATS) Shutdown() {
	s := n.current()
	s.Shutdown()
	s.WaitForShutdown()
	unstage(n.staged()...)
	_ = n.lock.Close() // of a second call: closed already
}
