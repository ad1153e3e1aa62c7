package egress_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

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

// comparison lets a Route and net/http read the same bytes.
type comparison struct {
	answers chan string // what the receiver says to the next request, before it closes the connection
	ours    *http.Client
	route   *egress.Route
	theirs  *http.Transport
	to      *url.URL
}

func newComparison(t testing.TB) *comparison {
	c := &comparison{
		answers: make(chan string, 1), ours: newClient(t, "127.0.0.0/8"),
		theirs: &http.Transport{MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, DisableKeepAlives: true},
	}
	s := script(t, nil, func(_ int, w *wire) {
		if w.request() != nil {
			w.say(<-c.answers)
		}
	})
	c.route = routeTo(t, c.ours, s.url, nil)
	var err error
	if c.to, err = url.Parse(s.url); err != nil {
		t.Fatal(err)
	}
	return c
}

// compare fails t where the two understand a response differently.
func (c *comparison) compare(t testing.TB, said string) {
	t.Helper()
	got := c.hear(t, said, func() (*http.Response, error) { return c.route.Post(t.Context(), patient()) })
	c.ours.CloseIdleConnections()
	want := c.hear(t, said, func() (*http.Response, error) {
		req := &http.Request{Method: http.MethodPost, URL: c.to, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), ContentLength: 2}
		return c.theirs.RoundTrip(req.WithContext(t.Context()))
	})
	if got != want {
		t.Errorf("%.300q: a route gets %+v, net/http %+v", said, got, want)
	}
}

// hear makes a request that is answered with the bytes said.
func (c *comparison) hear(t testing.TB, said string, send func() (*http.Response, error)) answered {
	t.Helper()
	c.answers <- said
	a := answer(send())
	select {
	case <-c.answers:
		t.Fatalf("no request arrived: %+v", a)
	default:
	}
	return a
}

// responses are what mutations begin with.
var responses = []string{
	"", fine, fine + forged, "HTTP/1.1 100 Continue\r\n\r\n" + fine, "HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.1 204 None\r\n\r\nok",
	"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 099\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2;x=y\nok\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nok", "HTTP/1.1 304 Old\r\nContent-Length: 3\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nok", "HTTP/1.1 200 OK\r\n X: y\r\n\r\n", "\x00\x00\x12\x04\x00\x00\x00\x00\x00",
	"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + fine,
	"HTTP/1.1 307 Elsewhere\r\nLocation: %zz\r\nContent-Length: 0\r\n\r\n",
}

// tokens are what mutations insert.
var tokens = []string{
	"\r\n", "\n", "\r", "\r\n\r\n", " ", "\t", ":", ";", ",", "\x00", "\x7f", "é", "0", "9", "-1", "f", "99999999999999999999",
	"0\r\n\r\n", "1\r\nx\r\n", "HTTP/1.1 ", "HTTP/1.0", "100", "103", "204", "\r\nContent-Length: 1", "\r\nContent-Length: ",
	"\r\nTransfer-Encoding: chunked", "\r\nTransfer-Encoding: gzip, chunked", "\r\nTransfer-Encoding: identity", "\r\nConnection: close",
	"\r\nTrailer: Content-Length", strings.Repeat("a", 70<<10),
}

// mutated changes a response in one to three places, mostly behind the first line's protocol and status.
func mutated(r *rand.Rand) string {
	b := []byte(responses[r.IntN(len(responses))])
	for range 1 + r.IntN(3) {
		low := 0
		if len(b) > len("HTTP/1.1 200") && r.IntN(4) > 0 {
			low = len("HTTP/1.1 200")
		}
		from := low + r.IntN(len(b)-low+1)
		to := from + r.IntN(min(8, len(b)-from)+1)
		switch r.IntN(8) {
		case 0:
			b = b[:from]
		case 1:
			b = slices.Delete(b, from, to)
		case 2:
			b = slices.Insert(b, from, slices.Clone(b[from:to])...)
		case 3:
			other := responses[r.IntN(len(responses))]
			b = append(b[:from], other[r.IntN(len(other)+1):]...)
		case 4:
			if from < len(b) {
				b[from] ^= 1 << r.IntN(8)
			}
		default:
			if line := strings.Index(string(b[from:]), "\r\n"); line >= 0 && r.IntN(4) > 0 {
				from += line
			}
			b = slices.Insert(b, from, []byte(tokens[r.IntN(len(tokens))])...)
		}
	}
	return string(b)
}

// A Route understands malformed responses as net/http does.
func TestHTTP1MutatedResponses(t *testing.T) {
	t.Parallel()
	c, r := newComparison(t), rand.New(rand.NewPCG(1, 1))
	for _, said := range responses {
		c.compare(t, said)
	}
	for range 2000 {
		c.compare(t, mutated(r))
	}
}

// A Route understands any response as net/http does.
func FuzzHTTP1Response(f *testing.F) {
	for _, said := range responses {
		f.Add(said)
	}
	c := newComparison(f)
	f.Fuzz(func(t *testing.T, said string) { c.compare(t, said) })
}
