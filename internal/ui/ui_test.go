package ui_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/ui"
)

func get(path string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	if len(headers) > 0 {
		req.Header.Set("If-None-Match", headers[0])
	}
	w := httptest.NewRecorder()
	if !ui.Serve(w, req) {
		w.Code = http.StatusNotFound
	}
	return w
}

func TestThePageAndItsFilesAreLoadedOnce(t *testing.T) {
	tags := map[string]bool{}
	for path, kind := range map[string]string{"/": "text/html", "/ui/app.js": "javascript", "/ui/sdk.js": "javascript",
		"/ui/app.css": "text/css"} {
		first := get(path)
		require.Equal(t, http.StatusOK, first.Code, path)
		require.Contains(t, first.Header().Get("Content-Type"), kind)
		require.Contains(t, first.Header().Get("Content-Security-Policy"), "default-src 'none'")
		tag := first.Header().Get("ETag")
		require.Regexp(t, `^"[\w-]{16}"$`, tag)
		tags[tag] = true

		again := get(path, tag)
		require.Equal(t, http.StatusNotModified, again.Code)
		require.Empty(t, again.Body.Bytes())
		require.Equal(t, http.StatusOK, get(path, `"another"`).Code, "a new relay's file is loaded")
	}
	require.Len(t, tags, 4, "each file has its own")
}

func TestNothingElseIsServed(t *testing.T) {
	for _, path := range []string{"/ui", "/ui/", "/ui/nothing.js", "/ui/../ui.go", "/page/app.js", "/index.html"} {
		require.Equal(t, http.StatusNotFound, get(path).Code, path)
	}
}

func TestTheGeneratedFileSaysSo(t *testing.T) {
	source, err := os.ReadFile("page/sdk.js")
	require.NoError(t, err)
	require.Regexp(t, regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`), string(source))
}
