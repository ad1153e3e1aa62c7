// Package changes is the history of what customers and operators configure: who changed which subscription, event type, key or
// tenant, when, and how it was defined from then on.
//
// In come changes, from the statement or transaction that makes them (Insert, Record), so that a change and its row are
// committed together. The actor is the caller of the request; without one it is the system, with the reason that By names.
// Definitions come without secrets: the packages that own a resource mask them.
//
// Out go the changes over HTTP (Routes), newest first, and the definition of a resource as of a revision or a time
// (Log.At). A page is bounded by its rows and by the bytes of its definitions.
//
// A row holds the definition after the change. The one before it is that of the row before; only the first row of a resource
// older than this table holds it too. Sweep drops old rows, but never the newest row of a resource that exists; Trim bounds the
// rows and bytes of each tenant. Nothing runs here, and there is nothing to close.
package changes
