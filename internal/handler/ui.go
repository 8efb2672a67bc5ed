package handler

import (
	"bytes"
	"embed"
	"net/http"
	"path"
	"strings"
	"time"
)

// uiFiles are the demo page: hand-written, but for ui/sdk, which is the SDK's own build
// (npm run build:ui in sdk/), so that the page needs no build step and no network.
//
//go:embed ui
var uiFiles embed.FS

// uiPolicy lets the page load its own files and talk to its own relay, and nothing else.
const uiPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ui serves the demo chat page: index.html at / and its files below /ui/.
func (r *Relay) ui(w http.ResponseWriter, req *http.Request) {
	name := strings.TrimPrefix(path.Clean(req.URL.Path), "/")
	if name == "" {
		name = "ui/index.html"
	}
	body, err := uiFiles.ReadFile(name)
	if err != nil {
		r.fail(w, req, errNoPath)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", uiPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // a new relay brings a new page
	r.extendDeadline(w, req)
	http.ServeContent(w, req, name, time.Time{}, bytes.NewReader(body))
}
