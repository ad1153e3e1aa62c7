// Package crashpoint names the places where a crash matters: between two steps of which each is durable.
//
// In comes the name of a place that the process has reached. Out goes nil. In a binary that is built with the tag "faults",
// as the tests of internal/chaos do, FANFARE_TEST_CRASH_POINT="name action n" makes the process die (kill), stop for a while
// (stall) or get an error (fail) when it reaches the place for the nth time; several actions may follow each other, as in "name
// fail 1 stall 2 kill 3". FANFARE_TEST_CRASH_LOG names a file that holds the name once the last action has begun. No released
// binary has this: Reach is inlined to nil.
package crashpoint

// The places, in the way of an event.
const (
	IngestClaimed     = "ingest-claimed"     // the id's row is written; the event is not sent
	IngestStored      = "ingest-stored"      // the broker has acknowledged the event; the caller has no answer
	PublishBatch      = "publish-batch"      // a part of an atomic batch is sent
	FanoutMatched     = "fanout-matched"     // an event is matched; its tasks are not sent
	FanoutHandedOver  = "fanout-handed-over" // tasks are on disk; the event is not in the ledger
	FanoutRecorded    = "fanout-recorded"    // the event is in the ledger; its message is not acknowledged
	DeliverAttempting = "deliver-attempting" // the request is not sent
	DeliverAnswered   = "deliver-answered"   // the receiver has answered; the outcome is not on disk
	DeliverWritten    = "deliver-written"    // the outcome is on disk; the task is not acknowledged
	DeliverHandedOff  = "deliver-handed-off" // a slow delivery has a row; its task is not acknowledged
	DeliverClaimed    = "deliver-claimed"    // a due delivery is leased; no attempt has begun
	RecorderReceived  = "recorder-received"  // outcomes were read from the stream; they are not in the ledger
	RecorderWritten   = "recorder-written"   // outcomes are in the ledger; their message is not acknowledged
)

// Points are all places.
func Points() []string {
	return []string{
		IngestClaimed, IngestStored, PublishBatch, FanoutMatched, FanoutHandedOver, FanoutRecorded, DeliverAttempting, DeliverAnswered,
		DeliverWritten, DeliverHandedOff, DeliverClaimed, RecorderReceived, RecorderWritten,
	}
}
