package bench

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// An event's data starts with its number, counted from benchFirst so that it always has ten digits, and with
// when it was sent, in ns since 1970, which always has nineteen.
const (
	benchMarker  = `"data":{"n":`
	benchBetween = `,"sent":`
	benchFirst   = 1_000_000_000
	benchSize    = 1024 // bytes of data of an event

	numberAt = len(`{"n":`)
	sentAt   = numberAt + 10 + len(benchBetween)
)

// benchData is the data of all events, but for number and time.
type benchData []byte

// newBenchData makes data about as compressible as an order is.
func newBenchData() benchData {
	data := fmt.Appendf(make([]byte, 0, 2*benchSize), `{"n":%d%s%d,"lines":"`, benchFirst, benchBetween, time.Now().UnixNano())
	for i := 0; len(data) < benchSize; i++ {
		data = fmt.Appendf(data, "%d x sku-%x; ", 1+i%7, i*2654435761%1048573)
	}
	return append(data[:benchSize-2], `"}`...)
}

// event is the data of event n.
func (d benchData) event(n int, sent time.Time) []byte {
	data := slices.Clone(d)
	number(data, n)
	stamp(data, sent)
	return data
}

// stamp overwrites the time in data.
func stamp(data []byte, sent time.Time) {
	strconv.AppendInt(data[sentAt:sentAt], sent.UnixNano(), 10)
}

// number overwrites the number in data.
func number(data []byte, n int) {
	strconv.AppendInt(data[numberAt:numberAt], int64(benchFirst+n), 10)
}

// readBenchEvent finds the number and the time in a webhook's body.
func readBenchEvent(body []byte) (n int, sent time.Time, ok bool) {
	at := bytes.Index(body, []byte(benchMarker)) + len(benchMarker) - numberAt
	if at < 0 || len(body) < at+sentAt+19 {
		return 0, time.Time{}, false
	}
	data := body[at:]
	n, err := strconv.Atoi(string(data[numberAt : numberAt+10]))
	ns, err2 := strconv.ParseInt(string(data[sentAt:sentAt+19]), 10, 64)
	return n - benchFirst, time.Unix(0, ns), err == nil && err2 == nil && n >= benchFirst
}
