package relaytest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABugIsSeenInTheOutput(t *testing.T) {
	fine := `{"level":"info","message":"listening"}` + "\n" +
		`{"level":"warn","error":"panic: said a provider, fatal error: too","message":"upstream"}` + "\n"
	require.Empty(t, bug(fine))
	for _, line := range []string{
		"panic: runtime error: index out of range [1] with length 1",
		"fatal error: stack overflow",
		"WARNING: DATA RACE",
		`{"level":"error","request_id":"A","panic":"x","stack":"goroutine 1","message":"panic"}`,
		`{"level":"warn","message":"http: panic serving 127.0.0.1:1: x"}`,
		`{"level":"error","error":"panic: x","message":"internal error at the end of a resumable stream"}`,
	} {
		require.Equal(t, line+"\nmore", bug(fine+line+"\nmore"))
	}
}
