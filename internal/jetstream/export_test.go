package jetstream

import "time"

// WithSilence shortens how long the broker may say nothing.
func (c SubscriberConfig) WithSilence(d time.Duration) SubscriberConfig {
	c.silence = d
	return c
}
