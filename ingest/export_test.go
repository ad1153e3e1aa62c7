package ingest

import (
	"net/http"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/api"
)

// Read reads a request's events, for tests from outside.
func Read(h http.Header, body []byte, maxEvents int) (events []fanout.Event, problems []*api.Problem, err error) {
	req, err := read(h, body, maxEvents)
	if err != nil {
		return nil, nil, err
	}
	for _, it := range req.items {
		events, problems = append(events, it.event), append(problems, it.problem)
	}
	return events, problems, nil
}

// Full says whether requests under way take all the room there is.
func (in *Ingest) Full() bool {
	if in.door.room.TryAcquire(1) {
		in.door.room.Release(1)
		return false
	}
	return true
}
