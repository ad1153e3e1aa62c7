package outcome

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/fanfarehq/fanfare/internal/cbor"
	"github.com/fanfarehq/fanfare/internal/egress"
)

// An exchange is an array of CBOR, in the stream and in the ledger alike: address and first byte of a reused connection;
// address, first byte, DNS, connecting and TLS of any other. The address is that of IPv4 or IPv6 with the port in two bytes, empty
// where it is not known, and null without a connection. Steps are microseconds, or null.
const (
	reusedFields = 2
	newFields    = 5
)

// PackExchange returns an exchange as it is stored; nil where nothing was sent.
func PackExchange(e egress.Exchange) []byte {
	if e == (egress.Exchange{}) {
		return nil
	}
	w := cbor.Writer{Buf: make([]byte, 0, 32)}
	steps := [...]time.Duration{e.FirstByte, e.DNS, e.Connect, e.TLS}
	taken := steps[:]
	if e.Connection == egress.ReusedConnection {
		taken = steps[:reusedFields-1]
	}
	w.Array(1 + len(taken))
	switch {
	case e.Connection == "":
		w.Null()
	case !e.Remote.IsValid():
		w.Bytes([]byte{})
	default:
		w.Bytes(binary.BigEndian.AppendUint16(e.Remote.Addr().AsSlice(), e.Remote.Port()))
	}
	for _, took := range taken {
		if took <= 0 {
			w.Null()
		} else {
			w.Uint(uint64(max(took.Microseconds(), 1)))
		}
	}
	return w.Buf
}

// UnpackExchange reads an exchange; what cannot be read is the zero Exchange.
func UnpackExchange(raw []byte) (e egress.Exchange) {
	if raw == nil {
		return e
	}
	in := cbor.Reader{Buf: raw}
	fields := in.Array(reusedFields, newFields+moreFields)
	if connected := !in.Null(); connected {
		e.Connection = egress.NewConnection
		if fields == reusedFields {
			e.Connection = egress.ReusedConnection
		}
		e.Remote = address(in.Bytes())
	}
	steps := []*time.Duration{&e.FirstByte, &e.DNS, &e.Connect, &e.TLS}
	for _, step := range steps[:max(min(fields-1, len(steps)), 0)] {
		if !in.Null() {
			*step = time.Duration(in.Int()) * time.Microsecond
		}
	}
	if in.Err != nil {
		return egress.Exchange{}
	}
	return e
}

// address reads an address with its port.
func address(raw []byte) netip.AddrPort {
	const port = 2
	if len(raw) < port {
		return netip.AddrPort{}
	}
	at, ok := netip.AddrFromSlice(raw[:len(raw)-port])
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(at, binary.BigEndian.Uint16(raw[len(raw)-port:]))
}
