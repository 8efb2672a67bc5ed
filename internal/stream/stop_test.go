package stream

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
)

// A stop can come when the stream has a record, and so can be found by its idempotency key, and its
// provider has not been asked. It is not asked then.
func TestAStopBeforeTheProviderIsAskedSavesTheCall(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url := redistest.Start(t).URL()
	o := Options{Grace: time.Minute, Retention: time.Minute}
	a, err := Open(o, redisconn.Options{URL: url})
	require.NoError(t, err)
	b, err := Open(o, redisconn.Options{URL: url})
	require.NoError(t, err)

	g, there := a.newGeneration(ctx, &Request{Owner: "me"})
	require.True(t, there)
	_, err = a.admit(g)
	require.NoError(t, err)
	_, err = a.store.create(ctx, g)
	require.NoError(t, err)
	a.mu.Lock()
	delete(a.streams, g.id) // as if the notice came before the stream was here
	a.mu.Unlock()
	require.NoError(t, b.Stop(ctx, "me", g.id))
	a.mu.Lock()
	a.streams[g.id] = g
	a.mu.Unlock()

	outcomes := make(chan Outcome, 1)
	a.store.adopt(g)
	g.start(&Request{
		Produce: func(context.Context) iter.Seq2[chat.Chunk, error] {
			t.Error("the provider was asked")
			return nil
		},
		Ended: func(o Outcome) { outcomes <- o },
	})
	require.Equal(t, chat.FinishStopped, (<-outcomes).Done.FinishReason)
	a.Close(ctx)
	b.Close(ctx)
}
