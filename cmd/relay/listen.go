package main

import (
	"errors"
	"net"
	"time"

	"github.com/rs/zerolog"
)

// listener tells of connections that could not be taken, which net/http only does where nobody looks: when a process
// has as many files open as it may, clients see nothing but silence.
type listener struct {
	net.Listener
	log zerolog.Logger
}

// acceptWarnings bounds the warnings: net/http tries again up to 200 times a second.
const acceptWarnings = 10 * time.Second

func listen(addr string, log zerolog.Logger) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{l, log.Sample(&zerolog.BurstSampler{Burst: 1, Period: acceptWarnings})}, nil
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Warn().Err(err).Str("addr", l.Addr().String()).Msg("a connection could not be taken (see ulimit -n)")
	}
	return conn, err
}
