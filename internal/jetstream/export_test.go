package jetstream

import "time"

// WithSilence shortens how long the broker may say nothing.
func (c SubscriberConfig) WithSilence(d time.Duration) SubscriberConfig {
	c.silence = d
	return c
}

// DoneBeforeTaken hands out a message whose handler is done before the session counts it as handed out. It returns
// how many queues are left, and the channel that is closed when no message has a handler.
func DoneBeforeTaken() (queues int, allDone <-chan struct{}) {
	r := newReady(1, func(subject string) string { return subject })
	d := &delivery{Delivery: Delivery{Subject: "key"}}
	r.add(d)
	r.next()
	r.done(d)
	r.take()
	return len(r.queues), r.allDone()
}
