package handler_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
)

func TestTheDemoPageHasAllThatItLoads(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, UI: true})
	res, page := fetch(t, http.MethodGet, r.url+"/", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
	require.Contains(t, res.Header.Get("Content-Security-Policy"), "default-src 'none'")

	files := regexp.MustCompile(`(?:src|href)="(/?ui/[^"]+)"`).FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, files)
	for _, f := range files {
		res, body := fetch(t, http.MethodGet, r.url+"/"+strings.TrimPrefix(f[1], "/"), "")
		require.Equal(t, http.StatusOK, res.StatusCode, f[1])
		require.NotEmpty(t, body)
	}

	res, body := fetch(t, http.MethodHead, r.url+"/", "")
	require.Equal(t, http.StatusOK, res.StatusCode, "uptime checks ask by HEAD")
	require.Empty(t, body)
}

func TestTheDemoPageShowsNoOtherFiles(t *testing.T) {
	with := start(t, handler.Options{Router: answering{hello}, UI: true})
	without := start(t, handler.Options{Router: answering{hello}})
	for _, url := range []string{with.url + "/ui/", with.url + "/ui/nothing.js", with.url + "/ui/%2e%2e/ui.go",
		without.url + "/", without.url + "/ui/app.js"} {
		res, body := fetch(t, http.MethodGet, url, "")
		require.Equal(t, http.StatusNotFound, res.StatusCode, url)
		require.Equal(t, chat.NotFound, lastError(t, body).Code)
	}
}
