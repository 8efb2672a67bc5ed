package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// A provider that refuses a question may quote it, and so have a stranger's text looked through for what it means.
func TestWhatIsReadOfAReportIsBounded(t *testing.T) {
	long := strings.Repeat("quoted \\u00e9 ", 1000)
	var many strings.Builder
	for range 100 {
		fmt.Fprintf(&many, `{"loc":["body",%q],"msg":%q},`, strings.ToUpper(long[:5000]), long[:3000])
	}
	python := func(n int) string {
		return `{"error":{"message":"Error: {'detail': {'input': '` + strings.Repeat("x", n) +
			`', 'message': 'maximum context length'}}"}}`
	}
	for name, tc := range map[string]struct {
		body string
		code chat.Code
	}{
		"one message":            {fmt.Sprintf(`{"error":{"message":%q}}`, "no good: "+long), chat.UpstreamRejected},
		"many, with their place": {`{"detail":[` + many.String() + `{}]}`, chat.UpstreamRejected},
		"Python's":               {python(1000), chat.ContextLengthExceeded},
		"Python's, too long":     {python(1 << 20), chat.UpstreamRejected},
	} {
		var r providerReport
		r.parse([]byte(tc.body))
		total := 0
		for _, m := range r.messages {
			total += len(m)
		}
		require.NotZero(t, total, name)
		require.LessOrEqual(t, total, 4<<10+16*130, name)
		require.Equal(t, tc.code, Of(Response{Status: 400, Body: []byte(tc.body)}).Code, name)
	}
}
