package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// gate is a log's reader that does not read until it is opened.
type gate struct {
	open    chan struct{}
	reached chan struct{} // closed when the first write has come
	once    sync.Once
	got     strings.Builder
	writes  int
}

func (g *gate) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.reached) })
	<-g.open
	g.writes++
	return g.got.Write(p)
}

func TestLogLinesKeepTheirOrderAndShareWrites(t *testing.T) {
	g := &gate{open: make(chan struct{}), reached: make(chan struct{})}
	q := newLogQueue(g)
	var want strings.Builder
	for i := range 1000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		n, err := q.Write([]byte(line))
		require.NoError(t, err)
		require.Equal(t, len(line), n)
		if i == 0 {
			<-g.reached // the others come while it is being written
		}
	}
	close(g.open)
	q.Close()
	require.Equal(t, want.String(), g.got.String())
	require.Equal(t, 2, g.writes)
}

func TestALogThatNobodyReadsIsBounded(t *testing.T) {
	g := &gate{open: make(chan struct{}), reached: make(chan struct{})}
	q := newLogQueue(g)
	line := []byte(strings.Repeat("x", 1<<10))
	const lines = 3 * maxQueuedLog / (1 << 10)
	written := make(chan int, lines) // a place for each, so that the counting can't block
	var logging sync.WaitGroup
	logging.Go(func() {
		for i := range lines {
			_, _ = q.Write(line)
			written <- i
		}
	})
	<-g.reached
	for range maxQueuedLog / (1 << 10) {
		<-written
	}
	q.mu.Lock()
	require.LessOrEqual(t, len(q.queued), maxQueuedLog+len(line))
	q.mu.Unlock()
	close(g.open)
	logging.Wait()
	q.Close()
	require.Equal(t, lines*len(line), g.got.Len(), "who had to wait lost nothing")
}
