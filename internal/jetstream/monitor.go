package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lookEvery is the time between two looks at the broker, and lookTimeout bounds one.
	lookEvery   = 10 * time.Second
	lookTimeout = 8 * time.Second
	// marksKept bounds the memory of a consumer's history: beyond it, every other mark is dropped.
	marksKept = 512
)

// Monitor measures streams and consumers, also those that another role reads: a role of which every process is gone is seen by
// what the others report.
type Monitor struct {
	js       natsjs.JetStream
	inboxes  []Inbox
	history  map[string]*history // by consumer
	bytes    *prometheus.GaugeVec
	maxBytes *prometheus.GaugeVec
	first    *prometheus.GaugeVec
	pending  *prometheus.GaugeVec
	acks     *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
	missing  *prometheus.GaugeVec
}

// NewMonitor makes a Monitor with a series for each stream and consumer of the inboxes.
func NewMonitor(js natsjs.JetStream, to prometheus.Registerer, inboxes ...Inbox) *Monitor {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fanfare_" + name, Help: help}, labels)
		to.MustRegister(g)
		return g
	}
	m := &Monitor{
		js: js, inboxes: inboxes, history: map[string]*history{},
		bytes:    gauge("stream_bytes", "Bytes in the stream.", "stream"),
		maxBytes: gauge("stream_max_bytes", "Bytes that the stream holds at most; 0: no bound.", "stream"),
		first:    gauge("stream_first_timestamp_seconds", "When the oldest message of the stream was stored; 0: it is empty.", "stream"),
		pending:  gauge("consumer_pending", "Messages that the consumer has not been given yet.", "stream", "consumer"),
		acks:     gauge("consumer_ack_pending", "Messages that the consumer was given and has not acknowledged.", "stream", "consumer"),
		oldest:   gauge("consumer_oldest_seconds", "Age of the oldest message that the consumer has not acknowledged, within 10 s, and since this process started.", "stream", "consumer"),
		missing:  gauge("stream_missing", "1 if the stream does not exist.", "stream"),
	}
	for _, in := range inboxes {
		for _, g := range []*prometheus.GaugeVec{m.bytes, m.maxBytes, m.first, m.missing} {
			g.WithLabelValues(in.Stream.Name)
		}
		for _, c := range in.Consumers {
			for _, g := range []*prometheus.GaugeVec{m.pending, m.acks, m.oldest} {
				g.WithLabelValues(in.Stream.Name, c.Durable)
			}
			m.history[c.Durable] = &history{}
		}
	}
	return m
}

// Run looks at the broker every few seconds until ctx ends. While the broker does not answer, the last values stay; that is for
// readiness to report.
func (m *Monitor) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		_ = m.Look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Look measures once.
func (m *Monitor) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for _, in := range m.inboxes {
		if err := m.stream(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

func (m *Monitor) stream(ctx context.Context, in Inbox) error {
	name := in.Stream.Name
	stream, err := m.js.Stream(ctx, name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		m.missing.WithLabelValues(name).Set(1)
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	m.missing.WithLabelValues(name).Set(0)
	m.bytes.WithLabelValues(name).Set(float64(info.State.Bytes))
	m.maxBytes.WithLabelValues(name).Set(float64(max(info.Config.MaxBytes, 0)))
	first := 0.0
	if info.State.Msgs > 0 {
		first = float64(info.State.FirstTime.UnixMilli()) / 1000
	}
	m.first.WithLabelValues(name).Set(first)
	for _, c := range in.Consumers {
		consumer, err := stream.Consumer(ctx, c.Durable)
		if errors.Is(err, natsjs.ErrConsumerNotFound) {
			continue // Readiness reports it.
		}
		if err != nil {
			return fmt.Errorf("look at consumer %s: %w", c.Durable, err)
		}
		m.consumer(name, consumer.CachedInfo(), info.State.LastSeq)
	}
	return nil
}

func (m *Monitor) consumer(stream string, info *natsjs.ConsumerInfo, last uint64) {
	m.pending.WithLabelValues(stream, info.Name).Set(float64(info.NumPending))
	m.acks.WithLabelValues(stream, info.Name).Set(float64(info.NumAckPending))
	age := m.history[info.Name].age(time.Now(), last, info.AckFloor.Stream)
	if info.NumPending+uint64(info.NumAckPending) == 0 {
		age = 0
	}
	m.oldest.WithLabelValues(stream, info.Name).Set(age.Seconds())
}

// history is the last sequence of a stream at some times of the past. By it the age of a message is known without reading it,
// which few roles may.
type history struct{ marks []mark }

type mark struct {
	at   time.Time
	last uint64
}

// age adds a mark and returns for how long there has been a message after floor.
func (h *history) age(now time.Time, last, floor uint64) time.Duration {
	if n := len(h.marks); n > 0 && h.marks[n-1].last > last {
		h.marks = nil // The stream was made again.
	}
	h.marks = append(h.marks, mark{now, last})
	for len(h.marks) > 0 && h.marks[0].last <= floor {
		h.marks = h.marks[1:]
	}
	if len(h.marks) > marksKept {
		kept := h.marks[:0:0]
		for i, m := range h.marks {
			if i%2 == 0 {
				kept = append(kept, m)
			}
		}
		h.marks = kept
	}
	if len(h.marks) == 0 {
		return 0
	}
	return now.Sub(h.marks[0].at)
}
