// Package fair shares a few places among tenants.
//
// In: a tenant that wants a place. Out: a place, and the function that gives it back.
//
// Promise: while a place is free, nobody waits. While tenants wait, places go round among them, one each, however many
// requests a tenant has; requests of one tenant are served in their order. A Room has places for costly requests, which wait for a
// bounded time.
//
// There is no dependency that could fail. A wait ends with its context; nothing has to be stopped.
package fair
