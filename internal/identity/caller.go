// Package identity knows who sends a request: whose API key or token it shows, and from which address it comes.
// It does not decide what a caller may do.
package identity

import "net/netip"

// Caller is who sent a request.
type Caller struct {
	// Name is the API key's or what the token says, for logs. It may be empty.
	Name string

	// Owner tells apart to whom streams and idempotency keys belong. It is the API key's or that of the person whom
	// the token is about, and empty where everybody may call. It is never an address: a phone that changes its
	// network keeps its streams.
	Owner string

	// Tier names the limits that hold for the caller: "key " and the API key's name, or "tier " and what its token
	// says. Empty: those of everybody.
	Tier string

	// Share tells apart who shares the relay with others, for limits alone: the Owner or, where everybody
	// may call, the client's address. It is empty when that is not known; then only the limits of the whole
	// process apply.
	Share string

	// Addr is the client's address, for logs. It is not valid when nobody told it.
	Addr netip.Addr
}
