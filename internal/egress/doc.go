// Package egress makes every HTTP request that leaves Fanfare: deliveries, test calls, key sets, token URLs.
//
// In comes a request to a URL that a stranger chose. CheckURL judges the URL when it is saved, without
// resolving any name; Policy.Control judges the address at the moment of dialing, after DNS, for each address that is
// tried. The second is the one that protects: a name may answer with another address at any time.
//
// Out goes the request through one http.Client made by NewClient. It takes no proxy from the environment, follows no
// redirect, inflates nothing, and bounds connecting, handshake and response header. The time of the whole
// exchange and the size of the body are the caller's to bound: by the request's context and an io.LimitReader.
//
// The client sends by net/http. A Route sends POSTs of up to 32 KiB to one URL by HTTP/1.1 itself, in the goroutine of the caller:
// net/http hands each request to two others. A deadline of the connection bounds the time of such a POST, so that it needs no
// context, timer or http.Request of its own. Over TLS a receiver is offered HTTP/2 first, by the client, and again each hour. A kept
// connection is used again only if nothing but responses was ever on it; a POST is made again only if nothing of it was written,
// or HTTP/2 said that it was not taken up. Client and Routes each keep as many unused connections as the configuration says, and
// never another tenant's. A Progress in the context, or in a Post, notes the connection of a request and how long each of its
// steps took.
//
// It promises that no connection is opened to an address that the policy forbids, and that the error
// for such an address is ErrBlocked, the same text after the same work, whichever rule forbade it and
// whatever listens there. Forbidden are: everything in the special-purpose registries of IANA for IPv4 and IPv6,
// everything outside the global unicast range of IPv6, the forms that carry an IPv4 address inside an IPv6 one (6to4,
// Teredo, IPv4-compatible and translated always; NAT64 and ISATAP by the address inside), the metadata addresses of the
// clouds, and the ports of well-known services that do not speak HTTP. What the operator allows by CIDR is
// reachable on every port; only a cloud's metadata address stays shut unless it is allowed by itself, as a single
// address, because tenants choose the URLs and 10.0.0.0/8 or fd00::/8 is rarely meant to include it.
//
// If DNS or the receiver fails, the request fails: ClassOf says how in the words of the API, Describe in a sentence
// that is fit for tenants, RedactURL takes the path and query out of an error. With an egress proxy (ProxyURL) the
// address is the proxy's to judge, since only the proxy resolves the name: it must refuse, after resolving, all that is forbidden
// above, and 403 is how it says so. Literal addresses, localhost and ports in URLs are judged here still,
// and https goes through a CONNECT tunnel, so that the proxy sees neither path nor body. What it answers itself
// to a request by plain http cannot be told from the receiver's answer. The package starts
// nothing but a timer while connections are kept; CloseIdleConnections of the client ends idle ones, and those in use when they are done.
package egress
