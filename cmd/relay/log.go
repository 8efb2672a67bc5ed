package main

import (
	"bytes"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
)

const (
	maxQueuedLog = 1 << 20              // bytes of log that may wait while a write is under way
	maxLogLine   = 64 << 10             // bytes; every field has a bound of its own, so that none comes near it
	logPause     = 5 * time.Millisecond // between two writes
)

// newLogger makes a logger that writes to w, in the format that suits stderr.
func newLogger(cfg *config.Config, stderr, w io.Writer) zerolog.Logger {
	if f, ok := stderr.(*os.File); cfg.LogFormat == "console" || cfg.LogFormat == "auto" && ok &&
		isatty.IsTerminal(f.Fd()) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	level, err := zerolog.ParseLevel(cfg.LogLevel)
	if err != nil {
		level = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// logQueue writes log lines in the order in which they come: the first at once, and those that come
// during that write or shortly after it together. No stream waits for it. While whoever reads the log
// does not keep up, lines beyond maxQueuedLog are lost, and counted; when it is gone, all are.
type logQueue struct {
	w    io.Writer
	lost func(lines int) // writes to w how many lines are missing at that place
	done chan struct{}   // closed when everything is written after Close

	total atomic.Int64 // of lines that were lost

	mu      sync.Mutex // guards the rest
	change  sync.Cond  // of queued and closed
	queued  []byte
	missing int
	closed  bool
}

// newLogQueue starts a writer, which must be closed.
func newLogQueue(w io.Writer, lost func(lines int)) *logQueue {
	l := &logQueue{w: w, lost: lost, done: make(chan struct{})}
	l.change.L = &l.mu
	go l.run()
	return l
}

// Write queues a line. It keeps no reference to it, and does not fail.
func (l *logQueue) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(line) > maxLogLine || len(l.queued)+len(line) > maxQueuedLog {
		l.missing++
		l.total.Add(1)
		l.change.Signal()
		return len(line), nil
	}
	l.queued = append(l.queued, line...)
	l.change.Signal()
	return len(line), nil
}

func (l *logQueue) run() {
	defer close(l.done)
	var writing []byte
	broken := 0 // lines that could not be written
	for {
		l.mu.Lock()
		for len(l.queued) == 0 && l.missing == 0 && !l.closed {
			l.change.Wait()
		}
		if len(l.queued) == 0 && l.missing == 0 {
			l.mu.Unlock()
			return
		}
		writing, l.queued = l.queued, writing[:0]
		missing := l.missing
		l.missing = 0
		l.mu.Unlock()
		if len(writing) > 0 {
			if n, err := l.w.Write(writing); err != nil {
				lines := bytes.Count(writing[n:], []byte("\n"))
				l.total.Add(int64(lines))
				broken += missing + lines // to be told when somebody reads again
				missing = 0
			} else {
				missing += broken
				broken = 0
			}
		}
		if missing > 0 {
			l.lost(missing)
		}
		time.Sleep(logPause)
	}
}

// Lost is how many lines were lost since the start.
func (l *logQueue) Lost() float64 { return float64(l.total.Load()) }

// Close writes what is queued, if that is possible within lastWords. What is logged afterwards is lost.
func (l *logQueue) Close() {
	l.mu.Lock()
	l.closed = true
	l.change.Signal()
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(lastWords): // whoever reads the log does not; that is no reason to stay
	}
}
