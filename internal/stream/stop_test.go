package stream

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redistest"
)

// A stop can come when the stream has a record, and so can be found by its idempotency key, and its
// provider has not been asked. It is not asked then.
func TestAStopBeforeTheProviderIsAskedSavesTheCall(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url := redistest.Start(t).URL()
	o := Options{Grace: time.Minute, Retention: time.Minute}
	a, err := Open(o, url)
	require.NoError(t, err)
	b, err := Open(o, url)
	require.NoError(t, err)

	g := &generation{hub: a, id: newID(), owner: "me", started: time.Now(), live: true}
	g.ctx, g.quit = context.WithCancel(ctx)
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
	g.start(func(context.Context) iter.Seq2[chat.Chunk, error] {
		t.Error("the provider was asked")
		return nil
	}, func(o Outcome) { outcomes <- o })
	require.Equal(t, chat.FinishStopped, (<-outcomes).Done.FinishReason)
	a.Close(ctx)
	b.Close(ctx)
}
