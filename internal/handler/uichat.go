package handler

import (
	"mime"
	"net/http"
	"strings"

	"github.com/websopy/relay/internal/dialect"
)

// uiPath is where useChat of the AI SDK asks by itself. The native dialect was here before it and stays: the body
// tells which of the two a request is in.
const uiPath = "/api/chat"

var (
	uiMessages = Dialect{
		Dialect: dialect.UIMessages{}, Words: true,
		Header: http.Header{"X-Vercel-Ai-Ui-Message-Stream": {"v1"}},
	}
	uiText = Dialect{
		Dialect: dialect.UIText{}, Words: true,
		Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
	}
)

// chooseUI gives the dialect of a request at uiPath.
func chooseUI(req *http.Request, body []byte) Dialect {
	if !dialect.IsUIMessages(body) {
		return Dialect{Dialect: dialect.Native{}}
	}
	return uiDialect(req)
}

// uiDialect gives the dialect of a request that useChat has made: plain text where the client asks for nothing else.
func uiDialect(req *http.Request) Dialect {
	plain := false
	for accepted := range strings.SplitSeq(req.Header.Get("Accept"), ",") {
		if strings.TrimSpace(accepted) == "" {
			continue
		}
		if typ, _, _ := mime.ParseMediaType(accepted); typ != "text/plain" {
			return uiMessages
		}
		plain = true
	}
	if plain {
		return uiText
	}
	return uiMessages
}
