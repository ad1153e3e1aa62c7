package servertest

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is a name server on loopback, over UDP and TCP. Its script answers one question; nil is silence.
type nameServer struct {
	udp    net.PacketConn
	tcp    net.Listener
	script func(q dnsmessage.Question, nth int) *dnsmessage.Message

	mu     sync.Mutex
	asked  map[dnsmessage.Type]int
	asking []net.Conn // the resolver's
	closed bool
	wg     sync.WaitGroup
}

// NewNameServer starts a name server on loopback and returns a resolver that asks it alone. The script answers the nth question of
// a type; nil is silence.
func NewNameServer(t testing.TB, script func(dnsmessage.Question, int) *dnsmessage.Message) *net.Resolver {
	t.Helper()
	udp, tcp, err := listenOnBoth()
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{udp: udp, tcp: tcp, script: script, asked: map[dnsmessage.Type]int{}}
	s.wg.Go(s.serveUDP)
	s.wg.Go(s.serveTCP)
	t.Cleanup(s.close)
	return &net.Resolver{PreferGo: true, Dial: s.dial}
}

// listenOnBoth listens on one port over UDP and TCP. A port that is free over TCP may be taken over UDP.
func listenOnBoth() (udp net.PacketConn, tcp net.Listener, err error) {
	for range 100 {
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return udp, tcp, nil
		}
		tcp.Close()
	}
	return nil, nil, err
}

// dial connects the resolver to this server and nobody else.
func (s *nameServer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, s.tcp.Addr().String())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	s.asking = append(s.asking, conn)
	return conn, nil
}

// close ends the server, and the questions that are still waiting: the resolver goes on asking for those that
// nobody waits for any more.
func (s *nameServer) close() {
	s.mu.Lock()
	s.closed = true
	for _, conn := range s.asking {
		conn.Close()
	}
	s.mu.Unlock()
	_ = s.udp.Close()
	s.tcp.Close()
	s.wg.Wait()
}

func (s *nameServer) serveUDP() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := s.answer(buf[:n], 1232); answer != nil {
			_, _ = s.udp.WriteTo(answer, from)
		}
	}
}

func (s *nameServer) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			defer conn.Close()
			var size [2]byte
			for {
				if _, err := io.ReadFull(conn, size[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(conn, query); err != nil {
					return
				}
				answer := s.answer(query, 65535)
				if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
					return
				}
			}
		})
	}
}

// answer packs the script's answer; beyond limit it is truncated.
func (s *nameServer) answer(query []byte, limit int) []byte {
	var in dnsmessage.Message
	if in.Unpack(query) != nil || len(in.Questions) != 1 {
		return nil
	}
	q := in.Questions[0]
	s.mu.Lock()
	s.asked[q.Type]++
	nth := s.asked[q.Type]
	s.mu.Unlock()
	out := s.script(q, nth)
	if out == nil {
		return nil
	}
	out.ID, out.Response, out.RecursionAvailable, out.Questions = in.ID, true, true, in.Questions
	packed, err := out.Pack()
	if err == nil && len(packed) > limit {
		out.Truncated, out.Answers = true, nil
		packed, err = out.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}

// Addresses answers A and AAAA questions with those of the list that fit.
func Addresses(q dnsmessage.Question, list ...string) *dnsmessage.Message {
	m := &dnsmessage.Message{}
	for _, text := range list {
		addr := netip.MustParseAddr(text)
		var body dnsmessage.ResourceBody
		switch {
		case addr.Is4() && q.Type == dnsmessage.TypeA:
			body = &dnsmessage.AResource{A: addr.As4()}
		case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
			body = &dnsmessage.AAAAResource{AAAA: addr.As16()}
		default:
			continue
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}, Body: body, // TTL 0
		})
	}
	return m
}

// Aliases answers with a chain of n aliases, the last of which points to target.
func Aliases(q dnsmessage.Question, n int, target string) *dnsmessage.Message {
	m := &dnsmessage.Message{}
	name := q.Name
	for i := range n {
		next := dnsmessage.MustNewName(strings.Repeat("x", i+1) + ".alias.test.")
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.CNAMEResource{CNAME: next},
		})
		name = next
	}
	last := Addresses(dnsmessage.Question{Name: name, Type: q.Type, Class: q.Class}, target)
	m.Answers = append(m.Answers, last.Answers...)
	return m
}
