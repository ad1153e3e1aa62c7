package webhook_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// fault is one thing that a receiver, a name server or an address can do to an attempt, and what must become
// of the attempt. The numbers are those of the fault catalogue: F068-F101 and F112-F116. What no single attempt shows
// is in TestRepeatedFaults, and in TestFaultsOverTime of package deliver.
type fault struct {
	id, name string
	tls      *tls.Config    // the receiver's
	roots    *x509.CertPool // whom the client trusts
	serve    func(*rawConn)
	url      string // instead of the receiver's own; {port} is its port
	names    func(q dnsmessage.Question, nth int) *dnsmessage.Message
	allow    string // which private ranges are open; all of loopback if empty; after an exclamation mark those that are shut
	stuck    bool   // only the attempt's deadline ends it, so that is short
	large    bool   // the request is larger than what the network buffers
	floods   bool   // the receiver sends without end

	want     outcome.Reason
	status   int
	requests int32 // at most so many reach the receiver; 1 if zero
	check    func(t *testing.T, r webhook.Result, rec *rawReceiver)
}

const ok200 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, f := range allFaults(t) {
		t.Run(f.id+" "+f.name, func(t *testing.T) {
			t.Parallel()
			r, rec := f.run(t)
			if r.Reason != f.want || r.Status != f.status {
				t.Errorf("got %s, status %d (%v); want %s, status %d", r.Reason, r.Status, cause(r), f.want, f.status)
			}
			if got, most := rec.requests.Load(), max(f.requests, 1); got > most {
				t.Errorf("%d requests reached the receiver, want at most %d", got, most)
			}
			if f.check != nil {
				f.check(t, r, rec)
			}
		})
	}
}

// However much a receiver sends, an attempt allocates little over all its time: 64 KiB of header (which net/http
// reads at ten times its size), 16 KiB kept, and the connection's own buffers. Not parallel, so that nobody else
// allocates; but the receiver's own TLS and frames count here as well.
func TestFaultsMemory(t *testing.T) { //nolint:paralleltest // it measures the process
	for _, f := range allFaults(t) {
		if !f.floods {
			continue
		}
		t.Run(f.id+" "+f.name, func(t *testing.T) {
			f.run(t) // what is made once: pools, the table's certificates
			most := uint64(2 << 20)
			if f.tls != nil {
				most = 32 << 20
			}
			// The receiver is in this process as well, and what it allocates before it notices the end is a matter of luck:
			// the least of a few runs counts.
			took, rec := f.allocates(t)
			for range 4 {
				if took > most {
					took, rec = f.allocates(t)
				}
			}
			if took > most {
				t.Errorf("allocated %d KiB", took>>10)
			}
			// The rest of what the receiver wrote is in the kernel's buffers of both sides.
			if wrote := rec.written.Load(); wrote > 32<<20 {
				t.Errorf("took %d MiB from the receiver", wrote>>20)
			}
		})
	}
}

// allocates returns how many bytes one run allocates.
func (f *fault) allocates(t *testing.T) (uint64, *rawReceiver) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, rec := f.run(t)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, rec
}

// run makes one attempt, or with again a second one, against the fault.
func (f *fault) run(t *testing.T) (webhook.Result, *rawReceiver) {
	t.Helper()
	serve := f.serve
	if serve == nil {
		serve = status("200 OK")
	}
	rec := newRawReceiver(t, "127.0.0.1:0", f.tls, serve)
	var opts []egress.Option
	if f.roots != nil {
		opts = append(opts, egress.WithRootCAs(f.roots))
	}
	if f.names != nil {
		opts = append(opts, egress.WithResolver(servertest.NewNameServer(t, f.names)))
	}
	poster := testPoster(t, f.allow, opts...)
	a := testAttempt(f.target(rec))
	if f.stuck {
		a.Subscription.Timeout = 300 * time.Millisecond
	}
	if f.large {
		a.Event.Data = append(append([]byte(`"`), bytes.Repeat([]byte("x"), 16<<20)...), '"')
	}
	start := time.Now()
	r := poster.Send(t.Context(), a)
	if took := time.Since(start); took > a.Subscription.Timeout+30*time.Second {
		t.Errorf("took %v of %v", took, a.Subscription.Timeout)
	}
	f.checkResult(t, r)
	return r, rec
}

// checkResult holds for whatever a receiver does.
func (f *fault) checkResult(t *testing.T, r webhook.Result) {
	t.Helper()
	if len(r.Response) > keptMost || bytes.IndexByte(r.Response, 0) >= 0 {
		t.Errorf("kept %d bytes, not fit to be stored", len(r.Response))
	}
	if r.Err == nil {
		return
	}
	text := r.Err.Error()
	if text == "" || len(text) > 500+3 || text != outcome.SanitizeText(text) {
		t.Errorf("error of %d bytes: %q", len(text), text)
	}
	if strings.Contains(text, "127.0.0.1") && f.want != outcome.ReasonProtocol && f.want != outcome.ReasonRedirect {
		t.Errorf("the error names an address: %s", text)
	}
}

func (f *fault) target(rec *rawReceiver) string {
	if f.url != "" {
		return strings.ReplaceAll(f.url, "{port}", rec.port())
	}
	if f.tls != nil {
		return "https://" + rec.addr + "/hook"
	}
	return "http://" + rec.addr + "/hook"
}

func allFaults(t *testing.T) []fault {
	t.Helper()
	var all []fault
	for _, part := range [][]fault{
		silenceFaults(), bodyFaults(t), headerFaults(), statusFaults(), connectionFaults(), redirectFaults(),
		retryAfterFaults(), nameFaults(), addressFaults(), tlsFaults(t), http2Faults(t),
	} {
		all = append(all, part...)
	}
	return all
}

// silenceFaults are receivers that take their time.
func silenceFaults() []fault {
	return []fault{
		{id: "F068", name: "never reads", want: outcome.ReasonTimeout, stuck: true,
			serve: func(c *rawConn) { <-c.receiver.gone }},
		{id: "F068", name: "never reads a large request", want: outcome.ReasonTimeout, stuck: true, large: true,
			serve: func(c *rawConn) { <-c.receiver.gone }},
		{id: "F069", name: "reads, never answers", want: outcome.ReasonTimeout, stuck: true, serve: reply("")},
		{id: "F070", name: "drips a body after 200", want: outcome.ReasonOK, status: 200,
			serve: func(c *rawConn) {
				c.request()
				c.send("HTTP/1.1 200 OK\r\n\r\n")
				c.drip("drip", 20*time.Millisecond)
			},
			check: func(t *testing.T, r webhook.Result, _ *rawReceiver) {
				if !bytes.HasPrefix(r.Response, []byte("d")) || r.Err != nil {
					t.Errorf("kept %q, error %v", r.Response, r.Err)
				}
			}},
		{id: "F070", name: "drips a body after 500", want: outcome.ReasonServer, status: 500,
			serve: func(c *rawConn) {
				c.request()
				c.send("HTTP/1.1 500 Oops\r\n\r\n")
				c.drip("d", 20*time.Millisecond)
			}},
		{id: "F071", name: "drips the header", want: outcome.ReasonTimeout, stuck: true,
			serve: func(c *rawConn) { c.request(); c.drip("HTTP/1.1 200 OK\r\nX: y", 20*time.Millisecond) }},
		{id: "F077", name: "103 now and then, for ever", want: outcome.ReasonTimeout, stuck: true,
			serve: func(c *rawConn) {
				c.request()
				c.drip(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10_000), time.Millisecond)
			}},
	}
}

// bodyFaults are bodies that are too much, or not what the header said.
func bodyFaults(t *testing.T) []fault {
	keeps := func(prefix string, length int) func(*testing.T, webhook.Result, *rawReceiver) {
		return func(t *testing.T, r webhook.Result, _ *rawReceiver) {
			if !bytes.HasPrefix(r.Response, []byte(prefix)) || length >= 0 && len(r.Response) != length {
				t.Errorf("kept %d bytes, %.60q; want %d, %q", len(r.Response), r.Response, length, prefix)
			}
		}
	}
	chunk := "1000\r\n" + strings.Repeat("x", 0x1000) + "\r\n"
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	sized := func(lengths ...string) string {
		var b strings.Builder
		b.WriteString("HTTP/1.1 200 OK\r\n")
		for _, length := range lengths {
			b.WriteString("Content-Length: " + length + "\r\n")
		}
		return b.String() + "\r\nhello"
	}
	bomb := gzipBomb(t)
	return []fault{
		{id: "F072", name: "endless chunks", want: outcome.ReasonOK, status: 200, floods: true,
			serve: floodAfter(chunked, chunk), check: keeps("xxxx", keptMost)},
		{id: "F072", name: "endless zeros", want: outcome.ReasonOK, status: 200, floods: true,
			serve: floodAfter("HTTP/1.1 200 OK\r\n\r\n", "\x00"), check: keeps("", 0)},
		{id: "F072", name: "10 GB announced", want: outcome.ReasonOK, status: 200, floods: true,
			serve: floodAfter("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", "x"), check: keeps("xxxx", keptMost)},
		{id: "F072", name: "endless after 503", want: outcome.ReasonServer, status: 503, floods: true,
			serve: floodAfter("HTTP/1.1 503 Busy\r\n\r\n", "x"), check: keeps("xxxx", keptMost)},
		{id: "F073", name: "gzip bomb", want: outcome.ReasonOK, status: 200, floods: true,
			serve: reply(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(bomb), bomb)),
			check: keeps(binaryMark+"H4sI", -1)},
		{id: "F074", name: "length too long", want: outcome.ReasonOK, status: 200, serve: hangUp(sized("50")), check: keeps("hello", 5)},
		{id: "F074", name: "length too short", want: outcome.ReasonOK, status: 200, serve: reply(sized("2")), check: keeps("he", 2)},
		{id: "F074", name: "negative length", want: outcome.ReasonProtocol, serve: reply(sized("-5"))},
		{id: "F074", name: "length in words", want: outcome.ReasonProtocol, serve: reply(sized("five"))},
		{id: "F074", name: "two different lengths", want: outcome.ReasonProtocol, serve: reply(sized("5", "4"))},
		{id: "F074", name: "two lengths in one", want: outcome.ReasonProtocol, serve: reply(sized("5, 4"))},
		{id: "F074", name: "the same length twice", want: outcome.ReasonOK, status: 200, serve: reply(sized("5", "5")), check: keeps("hello", 5)},
		{id: "F074", name: "length and chunks", want: outcome.ReasonOK, status: 200,
			serve: reply("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), check: keeps("hello", 5)},
		{id: "F075", name: "chunk size is no number", want: outcome.ReasonProtocol, status: 200, serve: reply(chunked + "zz\r\nhello\r\n0\r\n\r\n")},
		{id: "F075", name: "second chunk size is no number", want: outcome.ReasonProtocol, status: 200, serve: reply(chunked + "5\r\nhello\r\n-1\r\n\r\n"),
			check: keeps("hello", 5)},
		{id: "F075", name: "chunk size overflows", want: outcome.ReasonProtocol, status: 200, serve: reply(chunked + "fffffffffffffffff\r\nhello")},
		{id: "F075", name: "chunk longer than its size", want: outcome.ReasonProtocol, status: 200, serve: reply(chunked + "2\r\nhello\r\n0\r\n\r\n")},
		{id: "F075", name: "endless chunk extension", want: outcome.ReasonProtocol, status: 200, floods: true, serve: floodAfter(chunked+"5;", "x")},
		{id: "F075", name: "extensions larger than chunks", want: outcome.ReasonProtocol, status: 200, floods: true,
			serve: floodAfter(chunked, "1;"+strings.Repeat("x", 3000)+"\r\nx\r\n")},
		{id: "F075", name: "endless trailers", want: outcome.ReasonProtocol, status: 200, floods: true,
			serve: floodAfter(chunked+"5\r\nhello\r\n0\r\n", "X-Trailer: x\r\n")},
		{id: "F075", name: "bad chunk after 500", want: outcome.ReasonServer, status: 500,
			serve: reply("HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")},
		{id: "F075", name: "ends within a chunk", want: outcome.ReasonOK, status: 200, serve: hangUp(chunked + "5\r\nhel"), check: keeps("hel", 3)},
		{id: "F075", name: "ends before the last line", want: outcome.ReasonOK, status: 200, serve: hangUp(chunked + "5\r\nhello\r\n0\r\n"),
			check: keeps("hello", 5)},
		{id: "F075", name: "unknown transfer encoding", want: outcome.ReasonProtocol, serve: reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nuryyb")},
	}
}

// gzipBomb is 16 MiB of zeros, which is 16 KiB of gzip.
func gzipBomb(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.CopyN(w, zeros{}, 16<<20); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// headerFaults are headers that are too much, or none.
func headerFaults() []fault {
	begin := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
	return []fault{
		{id: "F076", name: "endless headers", want: outcome.ReasonProtocol, floods: true, serve: floodAfter(begin, "X-Header: x\r\n")},
		{id: "F076", name: "endless header", want: outcome.ReasonProtocol, floods: true, serve: floodAfter(begin+"X: ", "x")},
		{id: "F076", name: "headers of 48 KiB", want: outcome.ReasonOK, status: 200,
			serve: reply(begin + "X: " + strings.Repeat("x", 48<<10) + "\r\n\r\n")},
		{id: "F076", name: "NUL in a header", want: outcome.ReasonProtocol, serve: reply(begin + "X: a\x00b\r\n\r\n")},
		{id: "F076", name: "a header without colon", want: outcome.ReasonProtocol, serve: reply(begin + "tls: \"x509: EOF\r\nunexpected EOF\r\n\r\n")},
		{id: "F076", name: "non-ASCII in a header", want: outcome.ReasonOK, status: 200, serve: reply(begin + "X: \xff\xc3\xa9\r\n\r\n")},
		{id: "F076", name: "a folded header", want: outcome.ReasonOK, status: 200, serve: reply(begin + "X: a\r\n b\r\n\r\n")},
		{id: "F077", name: "endless 100", want: outcome.ReasonProtocol, floods: true, serve: floodAfter("", "HTTP/1.1 100 Continue\r\n\r\n")},
		{id: "F077", name: "endless 103", want: outcome.ReasonProtocol, floods: true,
			serve: floodAfter("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")},
		{id: "F077", name: "a 103, then 200", want: outcome.ReasonOK, status: 200, serve: reply("HTTP/1.1 103 Early Hints\r\n\r\n" + ok200)},
	}
}

// statusFaults are status lines that are none, and statuses that mean something else than success.
func statusFaults() []fault {
	answer := func(line string) func(*rawConn) { return reply(line + "\r\nContent-Length: 0\r\n\r\n") }
	return []fault{
		{id: "F078", name: "101", want: outcome.ReasonProtocol, status: 101, floods: true,
			serve: floodAfter("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "x")},
		{id: "F078", name: "101 without upgrade", want: outcome.ReasonProtocol, status: 101, serve: answer("HTTP/1.1 101 Switching Protocols")},
		{id: "F079", name: "status 000", want: outcome.ReasonProtocol, status: 0, serve: answer("HTTP/1.1 000 Nothing")},
		{id: "F079", name: "status 099", want: outcome.ReasonProtocol, status: 99, serve: answer("HTTP/1.1 099 Low")},
		{id: "F079", name: "status 99", want: outcome.ReasonProtocol, serve: answer("HTTP/1.1 99 Short")},
		{id: "F079", name: "status 600", want: outcome.ReasonProtocol, status: 600, serve: answer("HTTP/1.1 600 High")},
		{id: "F079", name: "status 999", want: outcome.ReasonProtocol, status: 999, serve: answer("HTTP/1.1 999 Higher")},
		{id: "F079", name: "status 2000", want: outcome.ReasonProtocol, serve: answer("HTTP/1.1 2000 Long")},
		{id: "F079", name: "status in words", want: outcome.ReasonProtocol, serve: answer("HTTP/1.1 two hundred")},
		{id: "F079", name: "status negative", want: outcome.ReasonProtocol, serve: answer("HTTP/1.1 -20 Negative")},
		{id: "F079", name: "garbage", want: outcome.ReasonProtocol, serve: reply("unexpected EOF received from peer\r\n\r\n")},
		{id: "F079", name: "endless garbage", want: outcome.ReasonProtocol, floods: true, serve: floodAfter("", "garbage")},
		{id: "F079", name: "empty lines", want: outcome.ReasonProtocol, serve: reply("\r\n\r\n\r\n\r\n")},
		{id: "F079", name: "HTTP/0.9", want: outcome.ReasonProtocol, serve: hangUp("<html>ok</html>\r\n")},
		{id: "F079", name: "another protocol", want: outcome.ReasonProtocol, serve: reply("ICY 200 OK\r\n\r\n")},
		{id: "F079", name: "TLS on a plain port", want: outcome.ReasonProtocol, serve: reply("\x15\x03\x01\x00\x02\x02\x16\r\n")},
		{id: "F079", name: "plain HTTP on a TLS port", want: outcome.ReasonProtocol, url: "https://127.0.0.1:{port}/",
			serve: func(c *rawConn) { c.send("HTTP/1.1 400 Bad Request\r\n\r\n"); c.hold() }},
		{id: "F079", name: "200 without a reason phrase", want: outcome.ReasonOK, status: 200, serve: answer("HTTP/1.1 200")},
		{id: "F079", name: "299", want: outcome.ReasonOK, status: 299, serve: answer("HTTP/1.1 299 Fine")},
		{id: "F079", name: "204", want: outcome.ReasonOK, status: 204, serve: reply("HTTP/1.1 204 No Content\r\n\r\n")},
		{id: "F079", name: "HTTP/1.0", want: outcome.ReasonOK, status: 200, serve: hangUp("HTTP/1.0 200 OK\r\n\r\nok")},
		{id: "F094", name: "410", want: outcome.ReasonGone, status: 410, serve: answer("HTTP/1.1 410 Gone")},
		{id: "F096", name: "500", want: outcome.ReasonServer, status: 500, serve: answer("HTTP/1.1 500 Oops")},
		{id: "F096", name: "404", want: outcome.ReasonClient, status: 404, serve: answer("HTTP/1.1 404 Not Found")},
	}
}

// connectionFaults are connections that break.
func connectionFaults() []fault {
	afterRequest := func(answer string) func(*rawConn) {
		return func(c *rawConn) { c.request(); c.send(answer); c.reset() }
	}
	return []fault{
		{id: "F080", name: "refused", want: outcome.ReasonConnect, url: "http://127.0.0.1:1/"},
		{id: "F080", name: "reset before reading", want: outcome.ReasonReset, serve: func(c *rawConn) { c.reset() }},
		{id: "F080", name: "reset within the request", want: outcome.ReasonReset, large: true,
			serve: func(c *rawConn) { _, _ = io.CopyN(io.Discard, c.in, 1<<10); c.reset() }},
		{id: "F080", name: "closed without an answer", want: outcome.ReasonReset, serve: hangUp("")},
		{id: "F080", name: "reset without an answer", want: outcome.ReasonReset, serve: afterRequest("")},
		{id: "F080", name: "closed within the header", want: outcome.ReasonReset, serve: hangUp("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")},
		{id: "F080", name: "reset within the header", want: outcome.ReasonReset, serve: afterRequest("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")},
		{id: "F080", name: "closed within a header's name", want: outcome.ReasonProtocol, serve: hangUp("HTTP/1.1 200 OK\r\nContent-")},
		{id: "F080", name: "closed within the body", want: outcome.ReasonOK, status: 200, serve: hangUp("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel")},
		{id: "F080", name: "answers without reading", want: outcome.ReasonServer, status: 503, large: true,
			serve: func(c *rawConn) {
				_, _ = c.in.Peek(1)
				c.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				c.hold()
			}},
	}
}

// redirectFaults are redirects, none of which is followed.
func redirectFaults() []fault {
	var faults []fault
	for _, code := range []int{301, 302, 303, 307, 308} {
		faults = append(faults, redirect("F085", code, "/hook"))
	}
	for _, to := range []string{
		"http://169.254.169.254/latest/meta-data", "http://127.0.0.1:4222/", "file:///etc/passwd", "gopher://127.0.0.1/x", "//other.test/",
	} {
		faults = append(faults, redirect("F086", 307, to))
	}
	secret := redirect("F085", 302, "https://user:hush@other.test/new?token=hush#hush")
	secret.check = func(t *testing.T, r webhook.Result, _ *rawReceiver) {
		want := "redirect to https://other.test/new is not followed"
		if r.Err == nil || r.Err.Error() != want {
			t.Errorf("got %v, want %s", r.Err, want)
		}
	}
	garbage := redirect("F085", 302, "http://%zz")
	return append(faults, secret, garbage,
		fault{id: "F085", name: "302 without a place", want: outcome.ReasonRedirect, status: 302, serve: reply("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")},
		fault{id: "F085", name: "304", want: outcome.ReasonRedirect, status: 304, serve: reply("HTTP/1.1 304 Not Modified\r\n\r\n")})
}

func redirect(id string, code int, to string) fault {
	return fault{
		id: id, name: fmt.Sprintf("%d to %.20q", code, to), want: outcome.ReasonRedirect, status: code,
		serve: status(fmt.Sprintf("%d Elsewhere", code), "Location: "+to),
	}
}

// retryAfterFaults are wishes, sensible or not.
func retryAfterFaults() []fault {
	wish := func(name string, code int, want time.Duration, headers ...string) fault {
		return fault{
			id: "F092", name: fmt.Sprintf("%d %s", code, name), status: code, want: outcome.ReasonOf(code), serve: status(fmt.Sprintf("%d Later", code), headers...),
			check: func(t *testing.T, r webhook.Result, _ *rawReceiver) {
				if r.RetryAfter != want {
					t.Errorf("got %v, want %v", r.RetryAfter, want)
				}
			},
		}
	}
	in := func(d time.Duration) string { return "Retry-After: " + time.Now().Add(d).UTC().Format(http.TimeFormat) }
	date := func(f fault, after time.Duration) fault {
		// Written when it is asked for: a parallel test may wait its turn for long.
		f.serve = func(c *rawConn) { status("503 Later", in(after))(c) }
		f.check = func(t *testing.T, r webhook.Result, _ *rawReceiver) {
			// A date has whole seconds, and the machine may be busy.
			if most := min(after, webhook.MaxRetryAfter); r.RetryAfter > most || r.RetryAfter < most-time.Minute {
				t.Errorf("got %v, want %v", r.RetryAfter, most)
			}
		}
		return f
	}
	tenTimes := strings.Split(strings.Repeat("Retry-After: 7\n", 9)+"Retry-After: 9", "\n")
	return []fault{
		wish("nothing", 429, 0),
		wish("0", 429, 0, "Retry-After: 0"),
		wish("-1", 429, 0, "Retry-After: -1"),
		wish("120", 429, 2*time.Minute, "Retry-After: 120"),
		wish("1e12", 429, 0, "Retry-After: 1e12"),
		wish("1000000000000", 429, 24*time.Hour, "Retry-After: 1000000000000"),
		wish("NaN", 429, 0, "Retry-After: NaN"),
		wish("a past date", 429, 0, in(-time.Hour)),
		date(wish("a date", 503, 0), time.Hour),
		date(wish("a far date", 503, 0), 1000*time.Hour),
		wish("ten headers", 429, 7*time.Second, tenTimes...),
		wish("4 kB", 429, 0, "Retry-After: "+strings.Repeat("9", 4096)),
		wish("502", 502, time.Minute, "Retry-After: 60"),
		wish("504", 504, time.Minute, "Retry-After: 60"),
		wish("not of a 500", 500, 0, "Retry-After: 60"),
		wish("not of a 404", 404, 0, "Retry-After: 60"),
	}
}

// untouched says that nobody connected to the receiver, which listens on a forbidden address.
func untouched(t *testing.T, _ webhook.Result, rec *rawReceiver) {
	t.Helper()
	if rec.conns.Load() != 0 {
		t.Error("the forbidden address was connected to")
	}
}

// blocked says so as well, and that the tenant learns nothing else.
func blocked(t *testing.T, r webhook.Result, rec *rawReceiver) {
	t.Helper()
	untouched(t, r, rec)
	if r.Err == nil || r.Err.Error() != egress.ErrBlocked.Error() {
		t.Errorf("got %v, want the one text for all that is blocked", r.Err)
	}
}

// unknown says that the tenant cannot tell a name with a forbidden address from one that does not exist.
func unknown(t *testing.T, r webhook.Result, rec *rawReceiver) {
	t.Helper()
	untouched(t, r, rec)
	if want := "the host does not exist, or its address is not allowed"; r.Err == nil || r.Err.Error() != want {
		t.Errorf("got %v, want %q", r.Err, want)
	}
}

// nameFaults are what a name server can do.
func nameFaults() []fault {
	const url = "http://receiver.test:{port}/hook"
	fails := func(code dnsmessage.RCode) func(dnsmessage.Question, int) *dnsmessage.Message {
		return func(dnsmessage.Question, int) *dnsmessage.Message {
			return &dnsmessage.Message{Header: dnsmessage.Header{RCode: code}}
		}
	}
	gives := func(list ...string) func(dnsmessage.Question, int) *dnsmessage.Message {
		return func(q dnsmessage.Question, _ int) *dnsmessage.Message { return servertest.Addresses(q, list...) }
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250) // nobody listens there
	}
	return []fault{
		{id: "F087", name: "resolves to loopback", url: url, allow: "127.0.0.2", names: gives("127.0.0.1"), want: outcome.ReasonDNS, check: unknown},
		{id: "F087", name: "resolves to metadata", url: url, allow: "127.0.0.2", names: gives("169.254.169.254"), want: outcome.ReasonDNS, check: unknown},
		{id: "F087", name: "IPv6 loopback only", url: url, allow: "127.0.0.2", names: gives("::1"), want: outcome.ReasonDNS, check: unknown},
		{id: "F087", name: "first a good one, then loopback", url: url, allow: "127.0.0.2",
			names: func(q dnsmessage.Question, nth int) *dnsmessage.Message {
				if nth == 1 {
					return servertest.Addresses(q, "127.0.0.2") // what a check before the request would have seen
				}
				return servertest.Addresses(q, "127.0.0.1")
			},
			want: outcome.ReasonConnect, check: untouched},
		{id: "F087", name: "a good one and loopback at once", url: url, allow: "127.0.0.2", names: gives("127.0.0.2", "127.0.0.1"), want: outcome.ReasonConnect,
			check: untouched},
		{id: "F087", name: "a good one and IPv6 loopback at once", url: url, allow: "127.0.0.2", names: gives("127.0.0.2", "::1"), want: outcome.ReasonDNS,
			check: unknown},
		{id: "F089", name: "resolves to an address of our own", url: url, allow: "127.0.0.0/8!127.0.0.1", names: gives("127.0.0.1"), want: outcome.ReasonDNS,
			check: unknown},
		{id: "F089", name: "an address of our own", url: "http://127.0.0.1:{port}/", allow: "127.0.0.0/8!127.0.0.1", want: outcome.ReasonBlocked, check: blocked},
		{id: "F088", name: "no such name", url: url, names: fails(dnsmessage.RCodeNameError), want: outcome.ReasonDNS, check: unknown},
		{id: "F088", name: "no address", url: url, names: gives(), want: outcome.ReasonDNS},
		{id: "F088", name: "server failure", url: url, names: fails(dnsmessage.RCodeServerFailure), want: outcome.ReasonDNS},
		{id: "F088", name: "refused", url: url, names: fails(dnsmessage.RCodeRefused), want: outcome.ReasonDNS},
		{id: "F088", name: "no answer", url: url, stuck: true, want: outcome.ReasonDNS,
			names: func(dnsmessage.Question, int) *dnsmessage.Message { return nil }},
		{id: "F088", name: "20 aliases", url: url, want: outcome.ReasonOK, status: 200,
			names: func(q dnsmessage.Question, _ int) *dnsmessage.Message { return servertest.Aliases(q, 20, "127.0.0.1") }},
		{id: "F088", name: "aliases that lead nowhere", url: url, want: outcome.ReasonDNS,
			names: func(q dnsmessage.Question, _ int) *dnsmessage.Message {
				m := servertest.Aliases(q, 20, "127.0.0.1")
				m.Answers = m.Answers[:20]
				return m
			}},
		{id: "F088", name: "1,000 addresses, over TCP, all dead", url: url, names: gives(many...), want: outcome.ReasonConnect},
		{id: "F088", name: "1,000 addresses, the first works", url: url, names: gives(append([]string{"127.0.0.1"}, many...)...), want: outcome.ReasonOK, status: 200},
		{id: "F087", name: "an address with a dot for a name", url: "http://127.0.0.1.:{port}/", allow: "127.0.0.2", want: outcome.ReasonDNS, check: untouched,
			names: gives("127.0.0.1")},
		{id: "F088", name: "a number for a name", url: "http://2130706433:{port}/", names: fails(dnsmessage.RCodeNameError), want: outcome.ReasonDNS, check: untouched},
	}
}

// addressFaults are forbidden addresses in the URL itself; a subscription may be older than a rule. All read
// the same (F116), whether something listens there or not.
func addressFaults() []fault {
	var faults []fault
	for _, host := range []string{
		"127.0.0.1", "[::1]", "[::]", "0.0.0.0", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
		"[2002:7f00:1::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[fe80::5efe:7f00:1]", "[fe80::1%25lo]",
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "100.100.100.200", "169.254.169.254", "168.63.129.16",
		"192.0.0.192", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]",
	} {
		faults = append(faults, fault{
			id: "F112", name: host, url: "http://" + host + ":{port}/", allow: "127.0.0.2", want: outcome.ReasonBlocked,
			names: func(q dnsmessage.Question, _ int) *dnsmessage.Message { return servertest.Addresses(q, "127.0.0.1") },
			check: blocked,
		})
	}
	return append(faults,
		fault{id: "F113", name: "an open range", allow: "127.0.0.1/32", want: outcome.ReasonOK, status: 200},
		fault{id: "F113", name: "beside an open range", allow: "127.0.0.1/32", url: "http://127.0.0.2:{port}/", want: outcome.ReasonBlocked})
}

// repeated are the faults of the catalogue that many attempts show, each with what must become of them.
var repeated = []struct {
	id, name string
	run      func(*testing.T)
}{
	{"F081", "idle connections are closed as they come to be used: nothing is received twice", staleConnections},
	{"F101", "a captured request is sent again later: the signature is too old", capturedRequests},
}

func TestRepeatedFaults(t *testing.T) {
	t.Parallel()
	for _, f := range repeated {
		t.Run(f.id+" "+f.name, func(t *testing.T) {
			t.Parallel()
			f.run(t)
		})
	}
}

// Every number of the catalogue has a row, here or in deliver's TestFaultsOverTime. F095, a 410 that somebody between
// forges, is not to be told from one of the receiver: that is what https is for, as docs/receiving.md says.
func TestEveryFaultHasARow(t *testing.T) {
	t.Parallel()
	rows := map[string]bool{
		"F090": true, "F093": true, "F095": true, "F096": true, "F097": true, "F098": true, "F099": true, "F100": true,
	}
	for _, f := range allFaults(t) {
		rows[f.id] = true
	}
	for _, f := range repeated {
		rows[f.id] = true
	}
	for n := 68; n <= 101; n++ {
		if id := fmt.Sprintf("F%03d", n); !rows[id] {
			t.Errorf("%s has no row", id)
		}
	}
}
