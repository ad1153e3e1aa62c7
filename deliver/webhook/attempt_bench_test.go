package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// The two benchmarks make the same signed POSTs of 1 KiB to the same sink, 64 at once: one by Send, with all that
// it promises, the other by the barest loop over net/http. To compare them:
//
//	go test -run - -bench 'BenchmarkPost' -count 6 ./deliver
func BenchmarkPostSend(b *testing.B) {
	benchmarkPost(b, func(client *http.Client, url string) func() error {
		poster, err := webhook.NewPoster(client, webhook.DefaultPosterConfig(), time.Now)
		if err != nil {
			b.Fatal(err)
		}
		// What the pipeline's context is: one that can end.
		ctx, cancel := context.WithCancel(b.Context())
		b.Cleanup(cancel)
		event := benchEvent()
		sub := &subscriptions.Subscription{
			ID: uuid.New(), URL: url, PayloadFormat: "standard", Secrets: []subscriptions.Secret{{Value: testSecret(1)}},
		}
		return func() error {
			a := webhook.Attempt{Event: event, Subscription: sub, Delivery: uuid.Nil, Number: 1}
			r := poster.Send(ctx, a)
			return r.Err
		}
	})
}

func BenchmarkPostBare(b *testing.B) {
	benchmarkPost(b, func(client *http.Client, url string) func() error {
		hashes := sync.Pool{New: func() any { return hmac.New(sha256.New, bytes.Repeat([]byte{1}, 32)) }}
		event := benchEvent()
		return func() error {
			body, err := standard().Body(event)
			if err != nil {
				return err
			}
			at := strconv.FormatInt(time.Now().Unix(), 10)
			mac := hashes.Get().(hash.Hash)
			mac.Reset()
			mac.Write([]byte(event.ID + "." + at + "."))
			mac.Write(body)
			signature := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
			hashes.Put(mac)
			req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("User-Agent", webhook.UserAgent)
			req.Header.Set("Webhook-Id", event.ID)
			req.Header.Set("Webhook-Timestamp", at)
			req.Header.Set("Webhook-Signature", signature)
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return err
		}
	})
}

func benchmarkPost(b *testing.B, prepare func(*http.Client, string) func() error) {
	policy, err := egress.ParsePolicy("127.0.0.0/8")
	if err != nil {
		b.Fatal(err)
	}
	client := egress.NewClient(policy, egress.DefaultConfig())
	defer client.CloseIdleConnections()
	post := prepare(client, "http://"+newSink(b)+"/hook")
	const atOnce = 64
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for n := i; n < b.N; n += atOnce {
				if err := post(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "POST/s")
	// The sink's part is in it, the same in both; unlike the rate it does not depend on who else is busy.
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func benchEvent() *event.Event {
	return &event.Event{
		ID: "evt_0198c0de5eed7000", Tenant: "acme", Type: "order.created", Time: time.Now(),
		Data: append(append([]byte(`"`), bytes.Repeat([]byte("x"), 1022)...), '"'),
	}
}

// newSink answers requests with as little work as there can be: it looks for the end of the header, and takes the
// body's length from the first request, since all are alike.
func newSink(b *testing.B) string {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	sink := newRawReceiver(b, "127.0.0.1:0", nil, func(c *rawConn) {
		if _, ok := c.request(); !ok {
			return
		}
		// The first request has told its size: whatever follows has the same.
		size := len(c.head) + bodyLength(c.head)
		if _, err := c.Conn.Write(answer); err != nil {
			return
		}
		sinkAll(c.Conn, size, answer)
	})
	return sink.addr
}

func bodyLength(head string) int {
	n, _ := strconv.Atoi(parse(head, nil).header.Get("Content-Length"))
	return n
}

func sinkAll(conn net.Conn, size int, answer []byte) {
	buf := make([]byte, 16<<10)
	for pending := 0; ; {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for pending += n; pending >= size; pending -= size {
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}
