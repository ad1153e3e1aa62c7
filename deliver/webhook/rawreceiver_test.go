package webhook_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rawReceiver is a receiver that speaks bytes, so that it can do what no HTTP server would.
type rawReceiver struct {
	addr     string
	requests atomic.Int32 // complete ones that it has read
	conns    atomic.Int32
	written  atomic.Int64 // bytes that the network took from it
	gone     chan struct{}

	listener net.Listener
	mu       sync.Mutex
	open     map[net.Conn]bool
	wg       sync.WaitGroup
}

// rawConn is one connection to a rawReceiver. A script may ignore all errors: it ends by itself once the
// connection does.
type rawConn struct {
	net.Conn
	in       *bufio.Reader
	receiver *rawReceiver
	number   int32  // from 1
	head     string // of the last request
}

// newRawReceiver runs script for each connection and closes the connection after it. With a TLS config it
// speaks TLS.
func newRawReceiver(t testing.TB, address string, config *tls.Config, script func(*rawConn)) *rawReceiver {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &rawReceiver{
		addr: listener.Addr().String(), listener: listener, open: map[net.Conn]bool{},
		gone: make(chan struct{}),
	}
	r.wg.Go(func() { r.accept(config, script) })
	t.Cleanup(r.close)
	return r
}

func (r *rawReceiver) accept(config *tls.Config, script func(*rawConn)) {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.open[conn] = true
		r.mu.Unlock()
		number := r.conns.Add(1)
		r.wg.Go(func() {
			defer conn.Close()
			c := &rawConn{Conn: conn, receiver: r, number: number}
			if config != nil {
				c.Conn = tls.Server(conn, config)
			}
			c.in = bufio.NewReader(c.Conn)
			script(c)
		})
	}
}

func (r *rawReceiver) close() {
	r.listener.Close()
	close(r.gone)
	r.mu.Lock()
	for conn := range r.open {
		conn.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *rawReceiver) port() string {
	_, port, _ := net.SplitHostPort(r.addr)
	return port
}

// Write counts what the network took.
func (c *rawConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.receiver.written.Add(int64(n))
	return n, err
}

// request reads one request and returns its body; false at the connection's end.
func (c *rawConn) request() ([]byte, bool) {
	var head strings.Builder
	length := 0
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return nil, false
		}
		head.WriteString(line)
		if line == "\r\n" {
			break
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return nil, false
	}
	c.receiver.requests.Add(1)
	c.head = head.String()
	return body, true
}

func (c *rawConn) send(s string) bool {
	_, err := io.WriteString(c, s)
	return err == nil
}

// flood sends the same without end.
func (c *rawConn) flood(s string) {
	for b := []byte(s); ; {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// drip sends one byte at a time without end: those of s, then the last one again and again.
func (c *rawConn) drip(s string, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for i := 0; c.send(s[i : i+1]); i = min(i+1, len(s)-1) {
		select {
		case <-ticker.C:
		case <-c.receiver.gone:
			return
		}
	}
}

// hold does nothing more until the other side ends the connection.
func (c *rawConn) hold() { _, _ = io.Copy(io.Discard, c.in) }

// reset ends the connection by RST.
func (c *rawConn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// reply reads a request, sends an answer and waits for the client to end the connection.
func reply(answer string) func(*rawConn) {
	return func(c *rawConn) {
		if _, ok := c.request(); ok && c.send(answer) {
			c.hold()
		}
	}
}

// hangUp reads a request, sends an answer and ends the connection.
func hangUp(answer string) func(*rawConn) {
	return func(c *rawConn) {
		if _, ok := c.request(); ok {
			c.send(answer)
		}
	}
}

// floodAfter reads a request, sends an answer's beginning, and its rest again and again.
func floodAfter(begin, rest string) func(*rawConn) {
	rest = strings.Repeat(rest, 1+4096/len(rest))
	return func(c *rawConn) {
		if _, ok := c.request(); ok && c.send(begin) {
			c.flood(rest)
		}
	}
}

// status answers every request of a connection, as a well-behaved receiver does.
func status(line string, headers ...string) func(*rawConn) {
	answer := "HTTP/1.1 " + line + "\r\nContent-Length: 2\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\nok"
	return func(c *rawConn) {
		for {
			if _, ok := c.request(); !ok || !c.send(answer) {
				return
			}
		}
	}
}

// authority is a certificate authority that only the test's client trusts.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// config is a receiver's: a certificate for 127.0.0.1, after change had its way with it.
func (a *authority) config(t testing.TB, change func(*x509.Certificate)) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// huge gives a chain of more than the 256 KiB that crypto/tls reads.
func huge(config *tls.Config) *tls.Config {
	leaf := config.Certificates[0].Certificate[0]
	for range 300 {
		config.Certificates[0].Certificate = append(config.Certificates[0].Certificate, bytes.Repeat(leaf, 4))
	}
	return config
}
