// Package api is the ground that every HTTP operation of Fanfare stands on: huma and its OpenAPI document on a
// http.ServeMux, callers, problems, and cursors of lists.
//
// In come requests. Before an operation sees one, its guard has judged it: a body that is announced as too large is
// refused, the credential is checked by the Authenticator, the operation's scope is demanded of the caller,
// ?tenant= is compared with the key's tenant. An operation without Scope or Public cannot be registered, so that
// none is open by oversight. Raw handlers (Mount) stand behind the same guard and in the same document.
//
// Out go JSON answers and, for every error, RFC 9457 problems: also for unknown routes (404), wrong methods (405 with
// Allow), bodies that are too large (413), that are not JSON (400), or that do not fit (422, with errors[].location as
// in body.url, query.limit), and for a panic (500, without a word of why). The document is at /openapi.json and readable at
// /docs, whose renderer is part of the binary.
//
// It promises that an id of another tenant, an unknown one and a malformed one get the same 404 (NotFound,
// ParseID), that a cursor works only in the list, for the tenant and with the filters that it was given for, and that an
// error's text never holds more of a request's body than its field names. JSON is read strictly: unknown and repeated
// names, invalid UTF-8 and U+0000, which Postgres cannot store, are refused.
//
// When a dependency is away, the error of the operation or of the Authenticator says so (a method
// Unavailable() bool, or Config.Unavailable) and becomes 503 with Retry-After; nothing here waits for it. The package
// starts nothing and holds nothing that must be stopped.
package api
