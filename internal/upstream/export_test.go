package upstream

// OpenPlaces is how many places of a limit are taken.
func OpenPlaces(l *Limit) int { return l.places.Taken() }

// Circuits is how many models have a state.
func (b *Breaker) Circuits() int { return len(b.circuits) }
