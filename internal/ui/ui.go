// Package ui is the demo chat page: its files, and how they are served. It knows nothing of chat.
package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// page is hand-written, but for sdk.js, which is made from sdk/ (npm run build:ui there), so that serving
// needs no Node and the page no network.
//
//go:embed page
var page embed.FS

// policy lets the page load its own files and talk to its own relay, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

type file struct {
	body []byte
	etag string // of the body, strong
}

// files are the page's, by their paths on the server.
var files = load()

func load() map[string]file {
	files := make(map[string]file)
	// The files are part of the program: what is wrong with them is found by every test.
	err := fs.WalkDir(page, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := page.ReadFile(name)
		sum := sha256.Sum256(body)
		f := file{body, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		if name == "page/index.html" {
			files["/"] = f
		}
		files["/ui/"+strings.TrimPrefix(name, "page/")] = f
		return err
	})
	if err != nil {
		panic(err)
	}
	return files
}

// Serve answers a GET or HEAD of the page, at /, or of one of its files, below /ui/. It returns false, and has
// written nothing, when there is no such file.
func Serve(w http.ResponseWriter, req *http.Request) bool {
	name := path.Clean(req.URL.Path)
	f, ok := files[name]
	if !ok {
		return false
	}
	if name == "/" {
		name = "index.html"
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // a new relay brings a new page; the ETag says whether it did
	h.Set("ETag", f.etag)
	http.ServeContent(w, req, name, time.Time{}, bytes.NewReader(f.body))
	return true
}
