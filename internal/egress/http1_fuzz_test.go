package egress_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// answered is what a client makes of a response.
type answered struct {
	status    int
	body      string
	err, read egress.Class // empty for no error
}

func answer(resp *http.Response, err error) (a answered) {
	if err != nil {
		return answered{err: egress.ClassOf(err)}
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	if a.status == http.StatusSwitchingProtocols {
		return a // net/http gives what follows to the caller
	}
	body, err := io.ReadAll(resp.Body)
	if a.body = string(body); err != nil {
		a.read = egress.ClassOf(err)
	}
	return a
}

// Whatever a receiver says, it is understood as net/http understands it.
func FuzzHTTP1Response(f *testing.F) {
	for _, seed := range []string{
		"", fine, fine + forged, "HTTP/1.1 100 Continue\r\n\r\n" + fine, "HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.1 204 None\r\n\r\nok",
		"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 099\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2;x=y\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nok", "HTTP/1.1 304 Old\r\nContent-Length: 3\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nok", "HTTP/1.1 200 OK\r\n X: y\r\n\r\n", "\x00\x00\x12\x04\x00\x00\x00\x00\x00",
	} {
		f.Add([]byte(seed))
	}
	p, err := egress.ParsePolicy("127.0.0.0/8")
	if err != nil {
		f.Fatal(err)
	}
	answers := make(chan []byte, 2)
	s := script(f, nil, func(_ int, w *wire) {
		if w.request() != nil {
			_, _ = w.Write(<-answers)
		}
	})
	ours := egress.NewClient(p, egress.DefaultConfig())
	f.Cleanup(ours.CloseIdleConnections)
	route := routeTo(f, ours, s.url, nil)
	theirs := &http.Client{
		Transport:     &http.Transport{MaxResponseHeaderBytes: 64 << 10, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	f.Cleanup(theirs.CloseIdleConnections)
	f.Fuzz(func(t *testing.T, said []byte) {
		answers <- said
		got := answer(ours.Post(s.url, "text/plain", strings.NewReader("{}")))
		ours.CloseIdleConnections()
		answers <- said
		byRoute := answer(route.Post(t.Context(), &egress.Post{
			Body: []byte("{}"), Until: time.Now().Add(time.Minute), BodyTime: time.Minute,
		}))
		answers <- said
		want := answer(theirs.Post(s.url, "text/plain", strings.NewReader("{}")))
		if got != want || byRoute != want {
			t.Errorf("got %+v, by a route %+v, want %+v", got, byRoute, want)
		}
		ours.CloseIdleConnections()
		theirs.CloseIdleConnections()
	})
}
