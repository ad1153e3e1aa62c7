package api

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// How much of a body is read on that a handler left unread, how long that may take, and how long its sender may be silent.
const (
	readOnBytes = 64 << 20
	readOnTime  = 10 * time.Second
	readOnPause = 500 * time.Millisecond
)

// ReadOn lets a client see an answer that was given before its body was read to the end. A connection that is closed while
// bytes arrive is reset, and a client that writes first and reads then finds no answer. So the answer is sent and the body
// read on and thrown away, within bounds.
func ReadOn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		b := &unread{ReadCloser: r.Body}
		// The server's own request keeps its body: it looks there for how much is left unread, and would else read on before it
		// answers, without a bound on time.
		wrapped := *r
		wrapped.Body = b
		next.ServeHTTP(w, &wrapped)
		// A client that awaits "100 Continue" has sent nothing yet.
		if b.ended || !b.begun && r.Header.Get("Expect") != "" {
			return
		}
		readOn(w, b.ReadCloser)
	})
}

func readOn(w http.ResponseWriter, body io.Reader) {
	control := http.NewResponseController(w)
	if control.Flush() != nil {
		return
	}
	end, left := time.Now().Add(readOnTime), readOnBytes
	buffer := make([]byte, 32<<10)
	for left > 0 && time.Now().Before(end) {
		if control.SetReadDeadline(time.Now().Add(readOnPause)) != nil {
			return
		}
		n, err := body.Read(buffer)
		left -= n
		if errors.Is(err, io.EOF) {
			_ = control.SetReadDeadline(time.Time{})
		}
		if err != nil {
			return
		}
	}
}

// unread is a body that knows how far it was read.
type unread struct {
	io.ReadCloser
	begun, ended bool
}

func (u *unread) Read(p []byte) (int, error) {
	u.begun = true
	n, err := u.ReadCloser.Read(p)
	u.ended = u.ended || err != nil
	return n, err
}
