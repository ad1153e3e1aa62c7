// Package vendors puts the four dialects together: what the binary needs to know of them, and their tests.
//
// In come the settings: which vendors' APIs are served, and what each leaves to the operator. Out go the vendors for
// dialects.Mux, the payload formats for deliver, and the event types that a vendor brings with it.
//
// It promises that every format exists, also of vendors that are not served: a subscription keeps its vendor's payload when the
// vendor's API is switched off, and the native API offers the formats too.
//
// If Postgres is away, Declare fails; nothing else here asks for anything. There is nothing to stop.
package vendors
