package dialects

// Capability is something that a caller may do or see. Its value is the scope that it needs, the same as in the native
// API: no vendor's route may ask for another one.
type Capability string

// The capabilities of the vendors' APIs.
const (
	ReadSubscriptions  Capability = "subscriptions:read"  // but for secrets, and tokens in headers and URLs
	WriteSubscriptions Capability = "subscriptions:write" // and read all of them, and send tests
	ReadDeliveries     Capability = "deliveries:read"     // and responses
	WriteDeliveries    Capability = "deliveries:write"    // cancel and hide
	ReadEvents         Capability = "events:read"         // event types, and payloads of types whose scopes the caller holds
)

// Has says whether the caller may do something.
func (c *Call) Has(what Capability) bool { return c.Caller.Has(string(what)) }

// Require refuses a caller that may not do something.
func (c *Call) Require(what Capability) error { return c.RequireScope(string(what)) }

// RequireScope refuses a caller without a scope that an event type demands.
func (c *Call) RequireScope(scope string) error {
	if c.Caller.Has(scope) {
		return nil
	}
	return Forbidden("The key lacks the scope " + scope + ".")
}
