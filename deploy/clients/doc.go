// Package clients generates clients from docs/openapi.json with oapi-codegen and ogen, compiles them, and has each do a round
// on a real Fanfare. A receiver is generated from the catalog of a tenant's event types, and receives.
//
// Nothing comes in and nothing goes out: the package is a test. It is a module of its own, so that the generators and the
// libraries of the generated code never become dependencies of Fanfare. go.mod pins their versions.
package clients
