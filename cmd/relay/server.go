package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/stream"
)

const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second // longer than load balancers keep idle connections: they should close first
	maxHeaderBytes    = 64 << 10
	// for error frames when the grace time is over, and for the last lines of the log
	lastWords = 5 * time.Second
)

var errSecondSignal = errors.New("second signal: gave up the running streams")

// newServer makes the server for clients: HTTP/1.1 and HTTP/2, with or without TLS. WriteTimeout stays
// 0: it would cut streams, and each write has a deadline of its own.
func newServer(cfg *config.Config, h http.Handler, log zerolog.Logger) (*http.Server, error) {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext:       handler.WithConnection,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			// What one connection can ask for at once. A balancer opens another one when it needs more.
			MaxConcurrentStreams: 100,
			// A connection can die silently.
			SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second,
			// A stream's own deadline does not free what waits to be written on a socket that nobody reads.
			WriteByteTimeout: cfg.WriteTimeout,
		},
		ErrorLog: serverLog(log),
	}
	s.Protocols.SetHTTP1(true)
	if cfg.TLSCert == "" {
		s.Protocols.SetUnencryptedHTTP2(true)
		return s, nil
	}
	s.Protocols.SetHTTP2(true)
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("RELAY_TLS_CERT, RELAY_TLS_KEY: %w", err)
	}
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return s, nil
}

// serveClients serves who comes to the listener, until the server is closed.
func serveClients(s *http.Server, l net.Listener) error {
	if s.TLSConfig != nil {
		return s.ServeTLS(l, "", "")
	}
	return s.Serve(l)
}

// certificateNames are the names that the relay's certificate is for: a browser that finds the relay by any other
// name does not speak to it.
func certificateNames(cfg *config.Config) []string {
	if cfg.TLSCert == "" {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil // newServer reports it
	}
	return cert.Leaf.DNSNames
}

// drain lets the running streams finish, in the steps of docs/operations.md.
func drain(
	cfg *config.Config, log zerolog.Logger, relay *handler.Relay, hub *stream.Hub, server *http.Server,
	signals <-chan os.Signal,
) error {
	relay.SetNotReady()
	select {
	case <-time.After(cfg.ShutdownDelay):
	case <-signals:
		relay.EndStreams()
		server.Close()
		return errSecondSignal
	}

	relay.Drain()
	grace, cancel := context.WithTimeout(context.Background(), cfg.ShutdownGrace)
	defer cancel()
	var err error
	shut := make(chan struct{}) // closed when everything has ended and err is set
	go func() {
		defer close(shut)
		var generations sync.WaitGroup
		if hub != nil {
			hub.Release()
			generations.Go(func() { hub.Close(grace) })
		}
		err = server.Shutdown(context.Background())
		generations.Wait()
	}()
	expired := grace.Done()
	var last <-chan time.Time
	for {
		select {
		case <-shut:
			log.Info().Msg("drained")
			return err
		case <-signals:
			cancel()
			relay.EndStreams()
			server.Close()
			<-shut
			return errSecondSignal
		case <-expired:
			log.Warn().Msg("the grace time is over: ending the running streams")
			relay.EndStreams()
			expired, last = nil, time.After(lastWords)
		case <-last:
			server.Close()
			<-shut
			log.Warn().Msg("drained, but some clients did not take their error frame")
			return nil
		}
	}
}

// serverLog takes what net/http has to say, mostly of clients that break off a handshake.
func serverLog(log zerolog.Logger) *stdlog.Logger {
	return stdlog.New(logWriter{log}, "", 0)
}

type logWriter struct{ log zerolog.Logger }

const maxServerLine = 2 << 10 // bytes

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug().Str("from", "net/http").Msg(strings.TrimSpace(string(p[:min(len(p), maxServerLine)])))
	return len(p), nil
}
