package outcome

// Outcome is the result of an attempt for its delivery, or the end of a delivery without one.
type Outcome string

// The outcomes. No attempt leads to Cancelled: it ends a delivery that must not be attempted any more.
const (
	Delivered Outcome = "delivered"
	Later     Outcome = "later"
	Dead      Outcome = "dead"
	Cancelled Outcome = "cancelled"
)

// Pending is the state of a delivery whose last outcome is Later, or that has none yet. Other states are outcomes.
const Pending = "pending"
