// Package dialects serves vendors' webhook-subscription APIs over Fanfare's subscriptions, so that a platform
// can put Fanfare behind an API that its partners' clients already speak.
//
// In come the requests of unchanged clients, in whatever encoding and with whatever slashes they send; each
// vendor is a package below this one, which maps its shapes and rules onto the one model. This package holds
// what they share: Mux finds the vendor of a path, a Vendor its routes, a Call reads the input and the caller.
// A caller is a Fanfare key, or a token that the vendor's token endpoint made for one (Tokens).
//
// Out go the vendor's own shapes, failures included: of a wrong key, an unknown route, a wrong method, a body
// that is too large or malformed, a panic. A vendor's deliveries are made by its deliver.Format.
//
// Promises: a dialect sees the subscriptions made through it, within the caller's tenant, and nothing else; every other
// id is not found, exactly as one that does not exist. The native API sees all of it, with its dialect, and changes nothing
// that the vendor fixes. Bodies are bounded in size, depth, count and time. No path of one vendor is another's, and no
// request is ever redirected. No receiver's answer ends a subscription, 410 included. Whoever changes where events go must hold the scopes of those events.
//
// Failures: if Postgres is away, calls fail with the vendor's own shape of an outage, and nothing is half done. Vendors
// know no versions: of two who change the same field the last one wins, and no other field is lost. There is nothing to
// stop: a call ends with its request, which takes 20 seconds at most.
package dialects
