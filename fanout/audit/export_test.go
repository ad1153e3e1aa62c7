package audit

import "time"

// SetClock makes a Reconciler believe that it is another time.
func SetClock(r *Reconciler, now func() time.Time) { r.now = now }
