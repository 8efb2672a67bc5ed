package upstream

import "net/http"

// SetTransport lets a test stand in for the network.
func SetTransport(s Streamer, rt http.RoundTripper) { s.(*client).transport = rt }

// CloseIdle closes a client's connections that are in no use.
func CloseIdle(s Streamer) { s.(*client).transport.(*http.Transport).CloseIdleConnections() }

// OpenPlaces is how many places of a limit are taken.
func OpenPlaces(l *Limit) int { return len(l.places) }
