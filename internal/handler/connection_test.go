package handler

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// A client that is gone without a word takes nothing any more, and one that does not read takes what its buffers hold:
// one can write to both for a while.
func TestWhatAClientHasNotTakenIsNotDelivered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.(*net.TCPConn).SetReadBuffer(128<<10))
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, server.(*net.TCPConn).SetWriteBuffer(1<<20))

	ctx := WithConnection(context.Background(), server)
	require.NotEqual(t, context.Background(), ctx)
	text := make([]byte, 400<<10)
	_, err = server.Write(text)
	require.NoError(t, err, "there is room for it on this side")
	require.False(t, delivered(ctx))

	for rest := len(text); rest > 0; {
		n, err := client.Read(text)
		require.NoError(t, err)
		rest -= n
	}
	require.True(t, delivered(ctx))
	require.NoError(t, server.Close())
	require.False(t, delivered(ctx), "nobody knows")
	require.True(t, delivered(context.Background()), "a connection that can't be asked")
}
