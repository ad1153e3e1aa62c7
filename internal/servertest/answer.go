package servertest

import (
	"net"
	"net/http"
	"strconv"
	"time"
)

// Answer answers one request. It is made by Status and the others of this file.
type Answer func(http.ResponseWriter, Request, until)

// until is what ends an answer that waits: the client left, or the test ended.
type until struct{ gone, closed <-chan struct{} }

// Status answers with a status and no body.
func Status(code int) Answer {
	return func(w http.ResponseWriter, _ Request, _ until) { w.WriteHeader(code) }
}

// Reply answers with a status, headers and a body.
func Reply(code int, header http.Header, body string) Answer {
	return func(w http.ResponseWriter, _ Request, _ until) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body)) // the client may have left
	}
}

// By asks a function of the test how to answer a request.
func By(choose func(Request) Answer) Answer {
	return func(w http.ResponseWriter, req Request, end until) { choose(req)(w, req, end) }
}

// Delay answers after a time.
func Delay(d time.Duration, then Answer) Answer {
	return func(w http.ResponseWriter, req Request, end until) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			then(w, req, end)
		case <-end.gone:
		case <-end.closed:
			panic(http.ErrAbortHandler) // without an answer
		}
	}
}

// After answers when the channel is closed or receives something.
func After(signal <-chan struct{}, then Answer) Answer {
	return func(w http.ResponseWriter, req Request, end until) {
		select {
		case <-signal:
			then(w, req, end)
		case <-end.gone:
		case <-end.closed:
			panic(http.ErrAbortHandler) // without an answer
		}
	}
}

// Hang never answers; it ends when the client leaves or the test does.
func Hang() Answer {
	return After(nil, nil)
}

// Reset cuts the connection off with a TCP reset instead of answering.
func Reset() Answer {
	return func(w http.ResponseWriter, _ Request, _ until) {
		cut(w, true, "")
	}
}

// Truncate announces a body of size bytes, sends the start of it and closes the connection.
func Truncate(code, size int, start string) Answer {
	return func(w http.ResponseWriter, _ Request, _ until) {
		cut(w, false, "HTTP/1.1 "+strconv.Itoa(code)+" "+http.StatusText(code)+
			"\r\nContent-Length: "+strconv.Itoa(size)+"\r\n\r\n"+start)
	}
}

// cut takes the connection from the server, writes raw bytes to it and closes it.
func cut(w http.ResponseWriter, reset bool, raw string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err) // the server speaks HTTP/1.1 only
	}
	defer conn.Close()
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0) // it fails only on a connection that is gone
	}
	_, _ = conn.Write([]byte(raw)) // the client may have left
}
