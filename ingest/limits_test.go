package ingest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A client that writes its whole request before it reads sees the answer of every limit.
func TestWhoSendsTooMuchSeesTheAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const size = 24 << 20
	for path, want := range map[string]int{
		"/v1/events": http.StatusRequestEntityTooLarge, "/v1/events?x=1": http.StatusRequestEntityTooLarge, "/v1/nothing": http.StatusNotFound,
		"/v1/subscriptions/0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69/test": http.StatusRequestEntityTooLarge,
	} {
		for _, key := range []string{"acme", "nobody's"} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, key, size)
			if err == nil {
				_, err = io.Copy(conn, io.LimitReader(blanks{}, size))
			}
			if err != nil {
				t.Errorf("%s of %s: %v", path, key, err)
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			_ = conn.Close()
			switch {
			case err != nil:
				t.Errorf("%s of %s: no answer: %v", path, key, err)
			case key == "acme" && res.StatusCode != want:
				t.Errorf("%s: answered %d, want %d", path, res.StatusCode, want)
			}
		}
	}
}

// blanks reads as spaces without end.
type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
