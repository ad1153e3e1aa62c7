package webhook

import (
	"net/http"
	"strconv"
	"time"
)

// MaxRetryAfter bounds what a receiver may ask for: a day, like the longest step of the default schedule.
const MaxRetryAfter = 24 * time.Hour

// HeedsRetryAfter says whether a status's Retry-After counts: those that mean "not now".
func HeedsRetryAfter(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// parseRetryAfter reads a Retry-After header: whole seconds or an HTTP date. It returns 0 if it is
// neither, negative or past, and at most MaxRetryAfter.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if value == "" || len(value) > 64 {
		return 0
	}
	if isDigits(value) {
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil || seconds > uint64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter // digits that overflow are just a very large number
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	// Sub saturates, so that dates centuries away are just very late or long past.
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
