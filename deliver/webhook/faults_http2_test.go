package webhook_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
)

// http2Conn is a connection of a receiver that offers HTTP/2, frame by frame.
type http2Conn struct {
	*http2.Framer
	conn *rawConn
}

// http2Script greets the client and hands the frames to script.
func http2Script(settings []http2.Setting, script func(*http2Conn)) func(*rawConn) {
	return func(c *rawConn) {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(c.in, preface); err != nil {
			return
		}
		h := &http2Conn{Framer: http2.NewFramer(c, c.in), conn: c}
		if h.WriteSettings(settings...) == nil {
			script(h)
		}
	}
}

// request reads frames until a request is complete and returns its stream; false at the connection's end.
func (h *http2Conn) request() (uint32, bool) {
	for {
		frame, err := h.ReadFrame()
		if err != nil {
			return 0, false
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() && h.WriteSettingsAck() != nil {
			return 0, false
		}
		if data, ok := frame.(*http2.DataFrame); ok && data.StreamEnded() {
			h.conn.receiver.requests.Add(1)
			return data.StreamID, true
		}
	}
}

// headers encodes a response's header block.
func (h *http2Conn) headers(fields ...string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		_ = encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return block.Bytes()
}

// answer sends a header, and ends the stream with it or leaves it open.
func (h *http2Conn) answer(stream uint32, end bool, fields ...string) error {
	return h.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: h.headers(fields...), EndHeaders: true, EndStream: end,
	})
}

// hold answers the connection's own frames, settings and pings, and nothing else, until it ends.
func (h *http2Conn) hold() {
	for {
		if _, ok := h.request(); !ok {
			return
		}
	}
}

// each runs act for every request of a connection.
func each(act func(h *http2Conn, stream uint32)) func(*rawConn) {
	return http2Script(nil, func(h *http2Conn) {
		for {
			stream, ok := h.request()
			if !ok {
				return
			}
			act(h, stream)
		}
	})
}

// flow writes one frame of a stream.
type flow func(h *http2Conn, stream uint32) error

// floodFrames reads a request, writes the first frame, and then the other one without end, while somebody
// reads what comes back.
func floodFrames(first, then flow) func(*rawConn) {
	return http2Script(nil, func(h *http2Conn) {
		stream, ok := h.request()
		if !ok {
			return
		}
		h.conn.receiver.wg.Go(h.conn.hold)
		for err := first(h, stream); err == nil; {
			err = then(h, stream)
		}
	})
}

// http2Faults are what a receiver can do with frames.
func http2Faults(t *testing.T) []fault {
	t.Helper()
	a := newAuthority(t)
	config := a.config(t, nil)
	config.NextProtos = []string{"h2"}
	ok := func(h *http2Conn, stream uint32) {
		_ = h.answer(stream, false, ":status=200")
		_ = h.WriteData(stream, true, []byte("ok"))
	}
	resent := func(want int) func(*testing.T, webhook.Result, *rawReceiver) {
		return func(t *testing.T, r webhook.Result, _ *rawReceiver) {
			if r.Resent != want {
				t.Errorf("resent %d times, want %d", r.Resent, want)
			}
		}
	}
	reset := func(code http2.ErrCode) func(*rawConn) {
		return each(func(h *http2Conn, stream uint32) { _ = h.WriteRSTStream(stream, code) })
	}
	// Encoded once: what the receiver allocates counts where memory is measured.
	early := new(http2Conn).headers(":status=103", "x="+strings.Repeat("x", 1000))
	flood := func(then flow) func(*rawConn) { return floodFrames(then, then) }
	header := func(h *http2Conn, stream uint32) error { return h.answer(stream, false, ":status=200") }
	faults := []fault{
		{name: "a good answer", want: outcome.ReasonOK, status: 200, serve: each(ok), check: func(t *testing.T, r webhook.Result, _ *rawReceiver) {
			if string(r.Response) != "ok" {
				t.Errorf("kept %q", r.Response)
			}
		}},
		{name: "retired before the request was taken up, once", want: outcome.ReasonOK, status: 200, requests: 2, check: resent(1),
			serve: func(c *rawConn) {
				if c.number > 1 {
					each(ok)(c)
					return
				}
				each(func(h *http2Conn, _ uint32) { _ = h.WriteGoAway(0, http2.ErrCodeNo, nil) })(c)
			}},
		{name: "retired before the request was taken up, always", want: outcome.ReasonReset, requests: 2, check: resent(1),
			serve: each(func(h *http2Conn, _ uint32) { _ = h.WriteGoAway(0, http2.ErrCodeNo, nil) })},
		{name: "retired after the request was taken up", want: outcome.ReasonOK, status: 200, check: resent(0),
			serve: each(func(h *http2Conn, stream uint32) { _ = h.WriteGoAway(stream, http2.ErrCodeNo, nil); ok(h, stream) })},
		{name: "retired with an error", want: outcome.ReasonReset, check: resent(0), serve: http2Script(nil, func(h *http2Conn) {
			if stream, ok := h.request(); ok {
				_ = h.WriteGoAway(stream, http2.ErrCodeEnhanceYourCalm, nil)
			}
		})},
		{name: "refused stream", want: outcome.ReasonReset, requests: 2, check: resent(1), serve: reset(http2.ErrCodeRefusedStream)},
		{name: "reset as a protocol error", want: outcome.ReasonReset, check: resent(0), serve: reset(http2.ErrCodeProtocol)},
		{name: "reset as cancelled", want: outcome.ReasonReset, check: resent(0), serve: reset(http2.ErrCodeCancel)},
		{name: "closed without an answer", want: outcome.ReasonReset, check: resent(0), serve: http2Script(nil, func(h *http2Conn) { h.request() })},
		{name: "reset after a 200", want: outcome.ReasonOK, status: 200, serve: each(func(h *http2Conn, stream uint32) {
			_ = h.answer(stream, false, ":status=200")
			_ = h.WriteRSTStream(stream, http2.ErrCodeInternal)
		})},
		{name: "no answer", want: outcome.ReasonTimeout, stuck: true, serve: http2Script(nil, (*http2Conn).hold)},
		{name: "no window, ever", want: outcome.ReasonTimeout, stuck: true, large: true,
			serve: http2Script([]http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}, (*http2Conn).hold)},
		{name: "endless resets", want: outcome.ReasonTimeout, stuck: true, floods: true,
			serve: flood(func(h *http2Conn, _ uint32) error { return h.WriteRSTStream(1<<20+1, http2.ErrCodeCancel) })},
		{name: "endless settings", want: outcome.ReasonTimeout, stuck: true, floods: true,
			serve: flood(func(h *http2Conn, _ uint32) error { return h.WriteSettings() })},
		{name: "endless pings", want: outcome.ReasonTimeout, stuck: true, floods: true,
			serve: flood(func(h *http2Conn, _ uint32) error { return h.WritePing(false, [8]byte{}) })},
		{name: "endless pings, whose answers it does not read", want: outcome.ReasonTimeout, stuck: true, serve: http2Script(nil, func(h *http2Conn) {
			for _, ok := h.request(); ok && h.WritePing(false, [8]byte{}) == nil; {
			}
		})},
		{name: "endless window updates", want: outcome.ReasonProtocol, floods: true,
			serve: flood(func(h *http2Conn, stream uint32) error { return h.WriteWindowUpdate(stream, 1<<30) })},
		{name: "endless header", want: outcome.ReasonProtocol, floods: true, serve: floodFrames(func(h *http2Conn, stream uint32) error {
			return h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.headers(":status=200")})
		}, func(h *http2Conn, stream uint32) error {
			return h.WriteContinuation(stream, false, h.headers("x="+strings.Repeat("x", 1000)))
		})},
		{name: "a header of 1 MiB", want: outcome.ReasonProtocol, floods: true, serve: each(func(h *http2Conn, stream uint32) {
			_ = h.answer(stream, true, ":status=200", "x="+strings.Repeat("x", 1<<20))
		})},
		{name: "endless empty data", want: outcome.ReasonOK, status: 200, floods: true, serve: floodFrames(header, func(h *http2Conn, stream uint32) error {
			return h.WriteData(stream, false, nil)
		})},
		{name: "endless informational", want: outcome.ReasonProtocol, floods: true, serve: flood(func(h *http2Conn, stream uint32) error {
			return h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: early, EndHeaders: true})
		})},
		{name: "no status", want: outcome.ReasonProtocol, serve: each(func(h *http2Conn, stream uint32) { _ = h.answer(stream, true, "x=y") })},
		{name: "status 101", want: outcome.ReasonProtocol,
			serve: each(func(h *http2Conn, stream uint32) { _ = h.answer(stream, true, ":status=101") })},
		{name: "garbage", want: outcome.ReasonProtocol, serve: each(func(h *http2Conn, _ uint32) { h.conn.send(strings.Repeat("garbage ", 10)) })},
	}
	for i := range faults {
		faults[i].id, faults[i].tls, faults[i].roots = "F091", config, a.pool
	}
	return faults
}

// A receiver that spoils its connection spoils nobody else's, and its own later attempts end in time as well. The
// pool of connections is one for all receivers, so one that is locked for ever would stop everything.
func TestSpoiledConnectionHoldsNobody(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	config := a.config(t, nil)
	config.NextProtos = []string{"h2"}
	for name, spoil := range map[string]flow{
		"pings unread":    func(h *http2Conn, _ uint32) error { return h.WritePing(false, [8]byte{}) },
		"window overflow": func(h *http2Conn, stream uint32) error { return h.WriteWindowUpdate(stream, 1<<31-1) },
		"settings unread": func(h *http2Conn, _ uint32) error { return h.WriteSettings() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := newRawReceiver(t, "127.0.0.1:0", config, http2Script(nil, func(h *http2Conn) {
				stream, ok := h.request()
				for ok && spoil(h, stream) == nil {
				}
			}))
			good := newRawReceiver(t, "127.0.0.1:0", config, each(func(h *http2Conn, stream uint32) { _ = h.answer(stream, true, ":status=204") }))
			poster := testPoster(t, "", egress.WithRootCAs(a.pool))
			for range 3 {
				attempt := testAttempt("https://" + bad.addr)
				attempt.Subscription.Timeout = 300 * time.Millisecond
				if r := poster.Send(t.Context(), attempt); r.Reason == outcome.ReasonOK || r.Duration > 5*time.Second {
					t.Errorf("the bad receiver: %+v", r)
				}
				if r := poster.Send(t.Context(), testAttempt("https://"+good.addr)); r.Reason != outcome.ReasonOK {
					t.Errorf("the good receiver: %+v, %v", r, cause(r))
				}
			}
		})
	}
}
