package jetstream_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

func kilobyte(id string) *message.Message {
	return &message.Message{
		UUID:     id,
		Metadata: message.Metadata{"Fanfare-Id": id, "Fanfare-Time": "2026-01-02T03:04:05.678Z", "Fanfare-Made": "1"},
		Payload:  make([]byte, 1024),
	}
}

// BenchmarkSend measures what callers that each wait for their ack get, with a sync before each ack.
func BenchmarkSend(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			js := newBroker(b).connect()
			apply(b, js, inbox())
			p := newPublisher(b, js, jetstream.PublisherConfig{Dedupe: true})
			send(b, p, callers, 2048) // to find the pace
			b.ReportAllocs()
			b.ResetTimer()
			send(b, p, callers, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// send sends n messages by so many callers at once.
func send(tb testing.TB, p *jetstream.Publisher, callers, n int) {
	var sent atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := sent.Add(1); i <= int64(n); i = sent.Add(1) {
				if _, err := p.Send(tb.Context(), subject, kilobyte(fmt.Sprintf("%d-%d", n, i))); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkSubscribe measures a handler that does nothing, one goroutine a message, as Watermill's router has it.
func BenchmarkSubscribe(b *testing.B) {
	for _, inFlight := range []int{1, 64, 1024} {
		b.Run(strconv.Itoa(inFlight), func(b *testing.B) {
			js := newBroker(b).connect()
			apply(b, js, inbox())
			p := newPublisher(b, js, jetstream.PublisherConfig{})
			send(b, p, min(1000, b.N), b.N)
			s := newSubscriber(b, js, jetstream.SubscriberConfig{MaxInFlight: inFlight})
			b.ReportAllocs()
			b.ResetTimer()
			msgs, err := s.Subscribe(context.Background(), "")
			if err != nil {
				b.Fatal(err)
			}
			var wg sync.WaitGroup
			for range b.N {
				msg := <-msgs
				wg.Go(func() { msg.Ack() })
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}
