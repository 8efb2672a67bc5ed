package stream

// Counted is what all streams of h count for, without what streams still hold that are to go.
func Counted(h *Hub) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}
