package access

import "time"

// Every sets how often Run does its round, and what it calls after each.
func (a *Access) Every(d time.Duration, afterRound func()) { a.every, a.afterRound = d, afterRound }

// Remembered is how many keys and unknown ids are remembered.
func (a *Access) Remembered() (keys, unknown int) { return a.keys.entries.Len(), a.keys.unknown.Len() }
