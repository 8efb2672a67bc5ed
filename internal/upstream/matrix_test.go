package upstream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/provider"
	"github.com/websopy/relay/internal/upstream/trace"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

// faulty is what a provider does wrong, and what the client must see of it.
type faulty struct {
	fault    upstreamtest.Fault
	code     chat.Code // empty: the answer is complete
	attempts int       // at a provider that goes on like that, with one retry
	another  bool      // it is worth another provider
	text     string
}

// faults are all that a provider does wrong, wherever it can.
func faults() []faulty {
	const (
		first  = "one " // what is sent stays sent
		header = upstreamtest.BeforeHeader
		before = upstreamtest.BeforeFirst
		at     = upstreamtest.AtFirst
		after  = upstreamtest.AfterFirst
	)
	var all []faulty
	// early is a fault before the first chunk, late one after it.
	early := func(what upstreamtest.What, code chat.Code, attempts int, positions ...upstreamtest.Position) {
		for _, p := range positions {
			all = append(all, faulty{upstreamtest.Fault{What: what, At: p}, code, attempts, true, ""})
		}
	}
	late := func(what upstreamtest.What, code chat.Code) {
		all = append(all, faulty{upstreamtest.Fault{What: what, At: after}, code, 1, false, first})
	}
	status := func(status int, code chat.Code, attempts int, another bool) {
		all = append(all, faulty{upstreamtest.Fault{What: upstreamtest.BadStatus, Status: status}, code, attempts,
			another, ""})
	}
	early(upstreamtest.Stalled, chat.UpstreamTimeout, 1, header, before, at)
	late(upstreamtest.Stalled, chat.UpstreamTimeout)
	early(upstreamtest.Reset, chat.UpstreamUnreachable, 2, header)
	early(upstreamtest.Reset, chat.UpstreamTruncated, 2, before, at)
	late(upstreamtest.Reset, chat.UpstreamTruncated)
	early(upstreamtest.Cut, chat.UpstreamUnreachable, 2, header)
	early(upstreamtest.Cut, chat.UpstreamTruncated, 2, before, at)
	late(upstreamtest.Cut, chat.UpstreamTruncated)
	early(upstreamtest.Truncated, chat.UpstreamTruncated, 2, header, before, at)
	late(upstreamtest.Truncated, chat.UpstreamTruncated)
	early(upstreamtest.Garbage, chat.UpstreamMalformed, 1, header, before, at)
	late(upstreamtest.Garbage, chat.UpstreamMalformed)
	early(upstreamtest.ErrorEvent, chat.UpstreamError, 2, header, before)
	late(upstreamtest.ErrorEvent, chat.UpstreamError)
	early(upstreamtest.HalfHeader, chat.UpstreamUnreachable, 2, "")
	early(upstreamtest.JSONError, chat.UpstreamError, 2, "")
	early(upstreamtest.Empty, "", 1, "")
	for _, p := range []upstreamtest.Position{header, before, at, after} {
		all = append(all, faulty{upstreamtest.Fault{What: upstreamtest.Slow, At: p}, "", 1, false, upstreamtest.Text})
	}
	for _, s := range []int{408, 409, 425, 500, 502, 503, 529} {
		status(s, chat.UpstreamError, 2, true)
	}
	status(429, chat.UpstreamRateLimited, 2, true)
	status(401, chat.UpstreamAuth, 1, true)
	status(403, chat.UpstreamAuth, 1, true)
	status(302, chat.UpstreamMalformed, 1, true)
	for _, s := range []int{400, 422} {
		status(s, chat.UpstreamRejected, 1, false)
	}
	for _, s := range []int{404, 413} {
		status(s, chat.UpstreamRejected, 1, true)
	}
	status(424, chat.UpstreamError, 2, true)
	return all
}

const matrixSeed = 20261122

// kindOptions are an upstream's. Only a provider that stalls has to fear the clocks.
func kindOptions(p *upstreamtest.Provider, kind string, f upstreamtest.Fault) provider.Options {
	o := options(kind, p.URL)
	o.APIVersion = "2024-10-21"
	if f.What == upstreamtest.Stalled {
		o.IdleTimeout = 500 * time.Millisecond
		if f.At != upstreamtest.AfterFirst {
			o.FirstChunkTimeout = 100 * time.Millisecond
			o.IdleTimeout = o.FirstChunkTimeout // it runs, too, where a block of text has begun
		}
	}
	return o
}

// TestFaultMatrix holds the contract over kinds × faults × positions: exactly one terminal (fold sees to
// that), no text twice, the right code after the right number of attempts, and all places free again.
func TestFaultMatrix(t *testing.T) {
	for i, format := range upstreamtest.Formats {
		for j, tc := range faults() {
			seed := uint64(matrixSeed + 1000*i + j)
			t.Run(format.Kind+"/"+tc.fault.String(), func(t *testing.T) {
				t.Parallel()
				bad := upstreamtest.New(t, format, seed)
				bad.Play(tc.fault)
				limit := upstream.NewLimit(newUpstream(t, kindOptions(bad, format.Kind, tc.fault)), 1, 1, 0)
				breaker := upstream.NewBreaker(nil)
				requireFreed := func() {
					require.NoError(t, bad.WaitIdle(t.Context()), "the provider is told")
					require.Zero(t, upstream.OpenPlaces(limit))
				}

				var tr trace.Trace
				alone := &upstream.Fallback{Budget: time.Minute, Candidates: []*upstream.Candidate{
					{Streamer: limit, Retries: 1, Breaker: breaker},
				}}
				got := chattest.Fold(t, alone.Stream(trace.With(t.Context(), &tr), question()))
				require.Equal(t, tc.text, got.Text)
				if tc.code == "" {
					require.NoError(t, got.Err)
				} else {
					require.Equal(t, tc.code, chat.AsError(got.Err).Code, "%v", got.Err)
				}
				require.Len(t, tr.Attempts, tc.attempts)
				if tc.fault.What != upstreamtest.Stalled { // a request may be given up before it is seen
					require.Equal(t, tc.attempts, bad.Requests())
				}
				requireFreed()

				tr = trace.Trace{}
				good := upstreamtest.New(t, format, seed)
				pair := &upstream.Fallback{Budget: time.Minute, Candidates: []*upstream.Candidate{
					{Streamer: limit, Breaker: breaker},
					{Streamer: newUpstream(t, kindOptions(good, format.Kind, upstreamtest.Fault{}))},
				}}
				got = chattest.Fold(t, pair.Stream(trace.With(t.Context(), &tr), question()))
				if tc.another {
					require.NoError(t, got.Err)
					require.Equal(t, upstreamtest.Text, got.Text)
					require.Len(t, tr.Attempts, 2)
					require.Equal(t, 1, good.Requests())
				} else {
					require.Equal(t, tc.text, got.Text)
					require.Equal(t, tc.code == "", got.Err == nil)
					require.Len(t, tr.Attempts, 1)
					require.Zero(t, good.Requests())
				}
				requireFreed()
			})
		}
	}
}

// TestAProviderThatRecoversIsNotNoticed goes through what is retried, and then fine. Not through stalls:
// with clocks so short, what is fine could be late as well.
func TestAProviderThatRecoversIsNotNoticed(t *testing.T) {
	for i, format := range upstreamtest.Formats {
		for j, tc := range faults() {
			if tc.attempts == 1 || tc.fault.What == upstreamtest.Stalled {
				continue
			}
			t.Run(format.Kind+"/"+tc.fault.String(), func(t *testing.T) {
				t.Parallel()
				p := upstreamtest.New(t, format, uint64(matrixSeed+1000*i+j))
				p.Play(tc.fault, upstreamtest.Fault{What: upstreamtest.None})
				f := &upstream.Fallback{Budget: time.Minute, Candidates: []*upstream.Candidate{
					{Streamer: newUpstream(t, kindOptions(p, format.Kind, tc.fault)), Retries: 1},
				}}
				got := chattest.Fold(t, f.Stream(t.Context(), question()))
				require.NoError(t, got.Err)
				require.Equal(t, upstreamtest.Text, got.Text)
				require.Equal(t, 2, p.Requests())
			})
		}
	}
}
