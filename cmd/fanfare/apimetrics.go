package main

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// apiMetrics count the requests of the API by the pattern of their route.
type apiMetrics struct {
	requests *prometheus.CounterVec   // route, class
	seconds  *prometheus.HistogramVec // route
	log      *slog.Logger
}

// noRoute is the label of requests that no route takes.
const noRoute = "none"

// newAPIMetrics makes the metrics, with a series for each of the routes, such as "GET /v1/events".
func newAPIMetrics(to prometheus.Registerer, routes []string, log *slog.Logger) *apiMetrics {
	m := &apiMetrics{
		log: log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_api_requests_total", Help: "Requests of the API, by route and class of status."}, []string{"route", "class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fanfare_api_seconds", Help: "How long requests of the API took, by route; streams apart.",
			Buckets: []float64{.005, .02, .1, .5, 1, 5, 30}}, []string{"route"}),
	}
	for _, route := range append(routes, noRoute) {
		for _, class := range []string{"2xx", "4xx", "5xx"} {
			m.requests.WithLabelValues(route, class)
		}
		m.seconds.WithLabelValues(route)
	}
	to.MustRegister(m.requests, m.seconds)
	return m
}

// around counts the requests of next, a mux.
func (m *apiMetrics) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			route := r.Pattern
			if route == "" || route == "/" {
				route = noRoute
			}
			if isChange(r.Method, route) && answer.status/100 == 2 {
				m.log.Info("changed over the API", "route", route, "path", r.URL.Path, "status", answer.status)
			}
			m.requests.WithLabelValues(route, strconv.Itoa(answer.status/100)+"xx").Inc()
			if !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/event-stream") {
				m.seconds.WithLabelValues(route).Observe(time.Since(began).Seconds())
			}
		}()
		next.ServeHTTP(answer, r)
	})
}

// isChange says whether a route changes something that a person may ask about later: subscriptions, keys, tenants, replays. What a
// publisher or a receiver does all day is not among them.
func isChange(method, route string) bool {
	if method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions || route == noRoute {
		return false
	}
	for _, often := range []string{" /v1/events", "/preview", "/ack", "/nack"} {
		if strings.HasSuffix(route, often) {
			return false
		}
	}
	return true
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the final status.
func (w *statusWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Flush is for handlers that stream.
func (w *statusWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
