package leaktest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Goleak by itself waits for less than half a second.
func TestAGoroutineThatEndsLateIsNoLeak(t *testing.T) {
	go time.Sleep(time.Second)
	require.Error(t, find(0), "it is still there")
	require.NoError(t, find(patience))
}

func TestAGoroutineThatDoesNotEndIsALeak(t *testing.T) {
	end := make(chan struct{})
	go leaking(end)
	require.ErrorContains(t, find(time.Second), "leaktest.leaking")
	close(end)
	require.NoError(t, find(patience))
}

func leaking(end <-chan struct{}) { <-end }
