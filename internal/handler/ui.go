package handler

import (
	"net/http"

	"github.com/websopy/relay/internal/ui"
)

// ui serves the demo chat page and its files.
func (r *Relay) ui(w http.ResponseWriter, req *http.Request) {
	r.extendDeadline(w, req)
	if !ui.Serve(w, req) {
		r.fail(w, req, errNoPath)
	}
}
