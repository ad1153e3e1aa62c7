// Package telemetry traces events through the stages with OpenTelemetry.
//
// In come the standard OTEL_* variables and, from the stages, steps: publish, match, task, attempt. Out go spans by OTLP (HTTP or
// gRPC), and to each step its traceparent, which the next one continues: in the headers of EVENTS, in the tasks, and in the request that
// a receiver gets. Log lines of a traced step carry its ids.
//
// Without an endpoint in the environment there is no Tracer: a nil one makes no spans, and costs a comparison. A step whose parent is
// not sampled makes no span either, and hands the parent's traceparent on.
//
// It promises nothing about spans: they are sent in the background, and dropped where the collector is away or too slow; the stages
// never wait for it. Close sends those that are left, within the given time.
package telemetry
