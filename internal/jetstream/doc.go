// Package jetstream carries Fanfare's messages over NATS JetStream, as a Watermill Publisher and Subscriber.
//
// In come messages for a subject, of any number of callers. The Publisher commits them in groups, one commit at
// a time for each stream: the first message goes at once, those that arrive meanwhile go together. What a
// group costs decides how it is published, as an atomic batch (one sync of the disk for up to 1,000 messages)
// or one by one; see pace.
//
// Out come the messages of a durable consumer. The Subscriber asks the broker for no more than it has room for,
// keeps alive whatever it was given, hands it out by keys in turn where keys are asked for, and answers as the message is answered: acked, or nacked and handed out again a
// little later. Streams and consumers are bound to, never made, except by Apply.
//
// Promised: a message whose Send returned without an error is in its stream, and on disk if Durability says so and the
// stream is not Unsynced; its Ack holds its exact place. Messages of one Publish keep their order. Each message is handed out at least
// once; without a crash exactly once, also where handling takes hours. What may have been handed out before is
// marked as Suspect. Not promised: order among the messages of several callers, or among those handed out while more
// than one is in flight.
//
// If the broker is away, sends wait for its return until their timeout and then fail with ErrUnavailable;
// subscriptions come back by themselves, messages in flight stay with their handlers, and acks are sent once it is
// back. If a consumer or its stream was deleted, a subscription looks for it with growing pauses, and says so in the log.
// Close ends a subscription in order: nothing more is requested, messages that wait here go back at once, those
// in flight may finish within DrainTimeout, and then go back as well.
package jetstream
