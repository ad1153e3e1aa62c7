package router

import (
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count the messages of all routes of a process.
type Metrics struct {
	Panics  prometheus.Counter
	handled *prometheus.CounterVec // handler, result
}

// NewMetrics makes the metrics and registers them; panics is counted elsewhere as well.
func NewMetrics(to prometheus.Registerer, panics prometheus.Counter) (*Metrics, error) {
	m := &Metrics{Panics: panics, handled: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "fanfare", Name: "messages_total", Help: "Messages handled, by handler.",
	}, []string{"handler", "result"})}
	return m, to.Register(m.handled)
}

// middleware counts the messages of a handler.
func (m *Metrics) middleware(handler string) message.HandlerMiddleware {
	done, back, failed := m.handled.WithLabelValues(handler, "ok"), m.handled.WithLabelValues(handler, "handed_back"), m.handled.WithLabelValues(handler, "error")
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			out, err := next(msg)
			switch {
			case err == nil:
				done.Inc()
			case errors.Is(err, ErrStopping):
				back.Inc()
			default:
				failed.Inc()
			}
			return out, err
		}
	}
}
