// Package outcome takes in the end of an attempt, or of a delivery, as a Record, and gives it out as bytes of the ATTEMPTS
// stream and back; it holds the words for both, Outcome and Reason, and computes the ids of deliveries.
//
// A Record packs to the same bytes in every process, and a reader skips fields that a later version appends. An id
// depends on the event, the subscription and the generation alone, so a delivery that is computed twice is one row.
//
// The package keeps no state and depends on no server.
package outcome
