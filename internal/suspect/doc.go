// Package suspect finds the messages that kill the process that handles them: by running out of memory, or by a fatal error
// of the Go runtime, which nothing can recover from.
//
// In come the messages of a stage, through a middleware of its Router (Guard.Middleware). Of those that may have been in hand when
// a process died (see jetstream.Delivery.Suspect) it counts in Postgres, before they are handled, in how many processes in a row
// that was begun, and forgets it afterwards. What is left is the count of deaths in a row, whatever the broker forgot. Out go the
// messages to their handler; after MaxTries deaths alone (Alone), so that those that were in hand with one are told apart from it.
// After one more death the message goes to quarantine and what it asks for is ended (Handlers); after one more that is left out
// as well.
//
// It counts by what a message is about (Subject), not by the message: a stage whose acknowledgement died with the process repeats
// its work and sends another message about the same. Such a message is new to the stream. So what a stage sends while it handles
// a counted message is marked (Counted, Mark), and the stage that receives it counts it, too. The count of a message that was put
// away stays for a day, so that repeats of it are put away at once.
//
// A message that the stream stored since the process began, and that was neither handed out before nor marked, costs nothing but
// a semaphore. Of the suspects that the broker calls new only the first of the process are counted: a process that dies
// begins where the last one was, give or take what the broker forgets at once.
//
// While Postgres is away nothing is counted, and messages are handled as usual. A handler that returns, with an error or
// without, did not die: its message begins at zero. A Guard runs nothing of its own, and needs not be stopped.
package suspect
