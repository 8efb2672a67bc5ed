package limit

// Kill ends a limiter as kill -9 ends its process: what it has told Redis stands, and its streams are not renewed.
func Kill(l *Limiter) {
	s := l.shared
	s.stop()
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaid = nil
}

// Unsaid is how many settlements wait for Redis.
func Unsaid(l *Limiter) int {
	l.shared.mu.Lock()
	defer l.shared.mu.Unlock()
	return len(l.shared.unsaid)
}

// Here is what is kept of a caller in this process.
func Here(l *Limiter, caller string) (dayTokens int64, streams int) {
	l.here.mu.Lock()
	defer l.here.mu.Unlock()
	u := l.here.callers[caller]
	if u == nil {
		return 0, 0
	}
	return u.dayTokens, u.streams
}

// Callers is how many callers this process remembers.
func Callers(l *Limiter) int {
	l.here.mu.Lock()
	defer l.here.mu.Unlock()
	return len(l.here.callers)
}

// Holders is how many callers a budget remembers.
func Holders(b *Bytes) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.of)
}

// IsShared tells whether a reservation is in Redis.
func IsShared(r *Reservation) bool { return r != nil && r.id != "" }

// Answered notes that the first node of Redis has just answered somebody.
func Answered(l *Limiter) {
	l.shared.health.of(l.shared.conn.Nodes()[0]).alive(l.shared.health.now())
}

// Hangs notes that the first node of Redis was found to hang.
func Hangs(l *Limiter) {
	l.shared.health.of(l.shared.conn.Nodes()[0]).again.Store(l.shared.health.now() + int64(Probe))
}

// Keys are those of a reservation in Redis.
func Keys(r *Reservation) (used, streams, own string) { return r.key[0], r.key[1], r.key[2] }
