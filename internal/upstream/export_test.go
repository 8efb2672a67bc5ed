package upstream

import "net/http"

// SetTransport lets a test stand in for the network.
func SetTransport(s Streamer, rt http.RoundTripper) { s.(*client).transport = rt }
