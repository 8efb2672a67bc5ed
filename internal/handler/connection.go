package handler

import (
	"context"
	"net"
	"syscall"
)

type connKey struct{}

// connection is what a request came over.
type connection struct {
	tcp *net.TCPConn
	raw syscall.RawConn
}

// WithConnection is for http.Server.ConnContext: it lets the handler see whether what it wrote has arrived. Where a
// connection can't be asked that, ctx stays as it is.
func WithConnection(ctx context.Context, conn net.Conn) context.Context {
	if encrypted, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = encrypted.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return ctx
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, connKey{}, &connection{tcp, raw})
}

// reset closes the connection in a way that nobody takes for its usual end.
func (c *connection) reset() {
	_ = c.tcp.SetLinger(0)
	_ = c.tcp.Close()
}

// unsent is how many bytes the other side has not taken yet. It is not ok when the connection is no more.
func (c *connection) unsent() (n int, ok bool) {
	err := c.raw.Control(func(fd uintptr) { n, ok = unsentOf(fd) })
	return n, ok && err == nil
}
