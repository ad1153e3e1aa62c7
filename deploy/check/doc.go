// Package check tests the files below deploy that other programs read: it loads docker-compose.yml with Docker's own loader and
// runs each service as a local process, and renders the Helm chart and holds the result against Kubernetes's schemas.
//
// Nothing comes in and nothing goes out: the package is tests. It is a module of its own, so that compose's and Helm's libraries
// never become dependencies of Fanfare.
package check
