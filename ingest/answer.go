package ingest

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/fanfarehq/fanfare/internal/api"
)

// retryAfter is what a 503 asks for, in seconds.
const retryAfter = "2"

// answerOne answers for the one event of a request. What it writes of the event needs no escaping: ids are plain.
func answerOne(w http.ResponseWriter, it *item) {
	if it.problem != nil {
		waitHeader(w, it)
		writeProblem(w, it.problem.Status, it.problem)
		return
	}
	writeJSON(w, http.StatusAccepted, appendResult(make([]byte, 0, 256), it))
}

// answerMany answers for the events of an array, in their order: 422 where none of them was accepted. If storage failed for
// one of them the answer is 503, and says what became of each.
func answerMany(w http.ResponseWriter, items []*item) {
	accepted, unstored := 0, false
	events := make([]byte, 0, 64*len(items)+2)
	events = append(events, '[')
	for i, it := range items {
		if i > 0 {
			events = append(events, ',')
		}
		if it.problem == nil {
			accepted++
		}
		unstored = unstored || it.unstored
		events = appendResult(events, it)
	}
	events = append(events, ']')
	if unstored {
		p := problem(http.StatusServiceUnavailable, "storage failed for some events: send those again")
		writeProblem(w, p.Status, partly{Problem: p, Accepted: accepted, Events: events})
		return
	}
	if p := limitedProblem(items); p != nil && accepted == 0 {
		waitHeader(w, items...)
		writeProblem(w, p.Status, partly{Problem: p, Events: events})
		return
	}
	if accepted == 0 && len(items) > 0 {
		p := problem(http.StatusUnprocessableEntity, "none of the events was accepted")
		writeProblem(w, p.Status, partly{Problem: p, Events: events})
		return
	}
	b := make([]byte, 0, len(events)+64)
	b = append(b, `{"accepted":`...)
	b = strconv.AppendInt(b, int64(accepted), 10)
	b = append(b, `,"events":`...)
	b = append(append(b, events...), '}')
	writeJSON(w, http.StatusAccepted, b)
}

// partly is the problem of an array of which only a part could be stored.
type partly struct {
	*api.Problem
	Accepted int             `json:"accepted"`
	Events   json.RawMessage `json:"events"`
}

// appendResult appends what became of one event.
func appendResult(b []byte, it *item) []byte {
	if it.problem != nil {
		text, err := json.Marshal(it.problem)
		if err != nil {
			text = []byte("{}") // Problems hold only text and numbers.
		}
		return append(append(append(b, `{"error":`...), text...), '}')
	}
	b = append(append(append(b, `{"id":"`...), it.event.ID...), `","duplicate":`...)
	return append(strconv.AppendBool(b, it.duplicate), '}')
}

func writeProblem(w http.ResponseWriter, status int, p any) {
	w.Header().Set("Content-Type", "application/problem+json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	text, err := json.Marshal(p)
	if err != nil {
		text = []byte("{}") // Problems hold only text and numbers.
	}
	write(w, status, text)
}

func writeJSON(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	write(w, status, text)
}

func write(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // The caller may be gone; there is nobody else to tell.
}
