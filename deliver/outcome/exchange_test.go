package outcome_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/egress"
)

func TestExchangesArePacked(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParseAddrPort("203.0.113.7:443"), netip.MustParseAddrPort("[2001:db8::1]:8443")
	for _, tc := range []struct {
		e    egress.Exchange
		most int // bytes
	}{
		{egress.Exchange{}, 0},
		{egress.Exchange{Remote: v4, Connection: egress.ReusedConnection, FirstByte: 900 * time.Microsecond}, 11},
		{egress.Exchange{Remote: v4, Connection: egress.ReusedConnection}, 9},
		{egress.Exchange{Connection: egress.ReusedConnection, FirstByte: time.Minute}, 7},
		{egress.Exchange{Remote: v6, Connection: egress.NewConnection, DNS: time.Second, Connect: 9 * time.Second, TLS: time.Millisecond, FirstByte: time.Second}, 40},
		{egress.Exchange{Remote: v4, Connection: egress.NewConnection, Connect: 20 * time.Microsecond, FirstByte: time.Second}, 24},
		{egress.Exchange{DNS: 5 * time.Second}, 24},
		{egress.Exchange{Connection: egress.NewConnection, Connect: time.Second, TLS: time.Second, FirstByte: time.Second}, 24},
	} {
		raw := outcome.PackExchange(tc.e)
		if got := outcome.UnpackExchange(raw); got != tc.e || len(raw) > tc.most {
			t.Errorf("%d bytes %x: got %+v, want %+v in %d bytes", len(raw), raw, got, tc.e, tc.most)
		}
	}
}

// What is in the ledger may be of a later version, or broken.
func FuzzUnpackExchange(f *testing.F) {
	f.Add([]byte{0x82, 0x46, 1, 2, 3, 4, 0, 80, 0x10})
	f.Add([]byte{0x86, 0xf6, 1, 2, 3, 4, 0xf6})
	f.Fuzz(func(_ *testing.T, raw []byte) { outcome.UnpackExchange(raw) })
}
