package main

import (
	"io"
	"sync"
	"time"
)

// maxQueuedLog is how many bytes of log may wait while a write is under way, before who logs has to wait
// as well.
const maxQueuedLog = 1 << 20

// logQueue writes log lines in the order in which they come, each as soon as the write before it has
// returned. Under load that makes one write of many lines, and no stream waits for it.
type logQueue struct {
	w    io.Writer
	done chan struct{} // closed when everything is written after Close

	mu     sync.Mutex // guards the rest
	change sync.Cond  // of queued and closed
	queued []byte
	closed bool
}

// newLogQueue starts a writer, which must be closed.
func newLogQueue(w io.Writer) *logQueue {
	l := &logQueue{w: w, done: make(chan struct{})}
	l.change.L = &l.mu
	go l.run()
	return l
}

// Write queues a line. It keeps no reference to it, and does not fail.
func (l *logQueue) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queued) > maxQueuedLog && !l.closed {
		l.change.Wait()
	}
	l.queued = append(l.queued, line...)
	l.change.Broadcast()
	return len(line), nil
}

func (l *logQueue) run() {
	defer close(l.done)
	var writing []byte
	for {
		l.mu.Lock()
		for len(l.queued) == 0 && !l.closed {
			l.change.Wait()
		}
		if len(l.queued) == 0 {
			l.mu.Unlock()
			return
		}
		writing, l.queued = l.queued, writing[:0]
		l.change.Broadcast()
		l.mu.Unlock()
		_, _ = l.w.Write(writing) // there is nowhere to report it
	}
}

// Close writes what is queued, if that is possible within lastWords. What is logged afterwards is lost.
func (l *logQueue) Close() {
	l.mu.Lock()
	l.closed = true
	l.change.Broadcast()
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(lastWords): // whoever reads the log does not; that is no reason to stay
	}
}
