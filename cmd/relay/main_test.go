package main_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/leaktest"
	"github.com/websopy/relay/internal/relaytest"
)

func TestMain(m *testing.M) {
	var flags []string
	if raceEnabled {
		flags = []string{"-race"}
	}
	os.Exit(relaytest.Main(func() int { return leaktest.Run(m) }, flags...))
}

// chunk is a frame as the clients of the seed read it.
type chunk struct {
	Type, Content, Code, FinishReason string
	Usage                             *struct{ PromptTokens, CompletionTokens int }
}

// read does what the seed's fetch reader does: it splits on lines and parses each data line as JSON, but
// for [DONE] where it expects that.
func read(t *testing.T, res *http.Response, marker bool) (text string, last chunk) {
	t.Helper()
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	ended := false
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		require.False(t, ended, "nothing follows the end")
		if marker && data == "[DONE]" {
			ended = true
			continue
		}
		last = chunk{}
		require.NoError(t, json.Unmarshal([]byte(data), &last), data)
		text += last.Content
	}
	require.NoError(t, lines.Err())
	require.Equal(t, marker, ended)
	return text, last
}
