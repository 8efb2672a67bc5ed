package main_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A stranger may send headers of 64 KiB. They are of no use while an answer is sent, which may be for many minutes.
func TestALargeHeaderIsNotKeptForTheAnswer(t *testing.T) {
	const streams, large = 100, 60 << 10
	p := plainRelay(t, saysHi)
	each := func(body string, headers ...string) int {
		before := heap(t, p)
		for range streams {
			res := p.Ask(t, "/api/chat/stream", body, headers...)
			require.Equal(t, http.StatusOK, res.StatusCode)
			_, err := io.ReadAtLeast(res.Body, make([]byte, 1), 1)
			require.NoError(t, err)
		}
		return (heap(t, p) - before) / streams
	}
	const question = `{"messages":[{"role":"user","content":"hi"}]}`
	usual := each(question)
	t.Logf("%d KiB a stream", usual>>10)
	require.Less(t, each(question, "X-Large", strings.Repeat("x", large)), usual+large/4)
	var many []string
	for i := range large / 100 {
		many = append(many, fmt.Sprintf("X-%040d", i), strings.Repeat("x", 40))
	}
	require.Less(t, each(question, many...), usual+large/4)
}
