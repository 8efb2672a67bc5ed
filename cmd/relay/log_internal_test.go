package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
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
	q := newLogQueue(g, func(int) { t.Error("nothing was lost") })
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

func TestALogThatNobodyReadsHoldsNobodyUpAndCountsWhatItLoses(t *testing.T) {
	g := &gate{open: make(chan struct{}), reached: make(chan struct{})}
	lost := 0
	q := newLogQueue(g, func(lines int) { lost += lines })
	line := []byte(strings.Repeat("x", 1<<10))
	_, _ = q.Write(line)
	<-g.reached // from here on everything waits, and there is room for maxQueuedLog
	const lines = 3 * maxQueuedLog / (1 << 10)
	for range lines {
		n, err := q.Write(line)
		require.NoError(t, err)
		require.Equal(t, len(line), n)
	}
	close(g.open)
	q.Close()
	require.Equal(t, maxQueuedLog+len(line), g.got.Len(), "what had room is written")
	require.Equal(t, lines-maxQueuedLog/len(line), lost)
}

func TestALineThatHasNoRoomByItselfIsCounted(t *testing.T) {
	var got strings.Builder
	lost := 0
	q := newLogQueue(&got, func(lines int) { lost += lines })
	_, _ = q.Write(make([]byte, maxQueuedLog+1))
	q.Close()
	require.Equal(t, 1, lost)
	require.Empty(t, got.String())
}

func TestLostLinesAreToldAtEveryLevel(t *testing.T) {
	for _, level := range []string{"debug", "info", "warn", "error"} {
		var got strings.Builder
		tellLost(&config.Config{LogFormat: "json", LogLevel: level}, &got)(3)
		require.Contains(t, got.String(), `"lines":3`)
	}
}

func TestOnlyATerminalGetsTextForALog(t *testing.T) {
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a device, as a terminal is
	require.NoError(t, err)
	defer nowhere.Close()
	var got strings.Builder
	log := newLogger(&config.Config{LogFormat: "auto", LogLevel: "info"}, nowhere, &got)
	log.Info().Msg("hello")
	require.True(t, json.Valid([]byte(got.String())), got.String())
}
