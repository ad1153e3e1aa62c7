package api

import "time"

// Instant is a time that a caller gave in the form that every store and answer can hold: without an offset, of which
// Postgres takes no 16 hours; in whole microseconds, as Postgres rounds up finer ones; and within the years 0 to 9999 of
// JSON, which the last day of 9999 leaves elsewhere on Earth.
func Instant(t time.Time) time.Time {
	switch t = t.UTC().Truncate(time.Microsecond); {
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	case t.Year() < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t
}
