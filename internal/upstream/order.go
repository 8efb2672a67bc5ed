package upstream

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/format"
)

// Load counts the answers that an upstream is giving. Its candidates share it, those of all its models, and those that
// are made anew when the settings are read again.
type Load struct {
	open atomic.Int64
	seen atomic.Bool // it has answered something, sometime
}

// begin counts one more, until end.
func (l *Load) begin() {
	if l != nil {
		l.open.Add(1)
	}
}

// see notes that the upstream is there.
func (l *Load) see() {
	if l != nil {
		l.seen.Store(true)
	}
}

func (l *Load) wasSeen() bool { return l != nil && l.seen.Load() }

func (l *Load) answers() int64 {
	if l == nil {
		return 0
	}
	return l.open.Load()
}

func (l *Load) end() {
	if l != nil {
		l.open.Add(-1)
	}
}

// Tier are candidates that share requests.
type Tier []Target

// Target is a candidate, with its share of its tier's requests.
type Target struct {
	*Candidate
	Weight int // at least 1
}

// before tells whether t is to have a request rather than o: the less loaded for its weight or, where they differ by
// no more than an answer and a quarter, as those that are equally fast do by chance, who was asked less often for its
// weight. Without the latter, of ten thousand short requests thirteen targets would get from 710 to 830 each.
func (t Target) before(o Target) bool {
	mine, others := float64(t.Load.answers())/float64(t.Weight), float64(o.Load.answers())/float64(o.Weight)
	if one := 1 / float64(min(t.Weight, o.Weight)); math.Abs(mine-others) > one+max(mine, others)/4 {
		return mine < others
	}
	return t.turn() < o.turn()
}

// oneAsked is what Candidate.asked grows by: more than 1, so that half of it can be had.
const oneAsked = 1 << 10

// turn is how often a target was asked lately, for its weight.
func (t Target) turn() float64 { return float64(t.asked.Load()) / float64(t.Weight) }

// order is in which order a route's candidates are asked for a request.
func (r *Route) order(req *chat.Request, caller string, sticky bool) []*Candidate {
	order := make([]*Candidate, 0, len(r.Tiers))
	for _, tier := range r.Tiers {
		switch {
		case len(tier) == 1:
			order = append(order, tier[0].Candidate)
		case sticky && caller != "":
			order = tier.ofCaller(order, caller)
		default:
			order = tier.draw(order)
		}
	}
	r.rememberedFirst(order, req, caller)
	return order
}

// draw adds the targets in a random order. For each place two are drawn by weight, of which one gets it, see before:
// so a slow one has fewer requests, and none gets them all for being the least loaded at the moment.
func (tier Tier) draw(order []*Candidate) []*Candidate {
	left := slices.Clone(tier)
	tier.forget()
	for len(left) > 0 {
		i, other := left.byWeight(), left.byWeight()
		if left[other].before(left[i]) {
			i = other
		}
		order = append(order, left[i].Candidate)
		left = slices.Delete(left, i, i+1)
	}
	return order
}

// forget has long ago count for less and less. Else one that was not asked for an hour, because its breaker was open,
// would get double its share for the next one.
//
// One of a small weight must have had its turn some times before: of 999 to 1 it comes after a thousand requests.
func (tier Tier) forget() {
	least := tier[0].Weight
	for _, t := range tier {
		least = min(least, t.Weight)
	}
	for _, t := range tier {
		asked, remembered := t.asked.Load(), 64*oneAsked*int64(t.Weight)/int64(least)
		if asked < remembered || !t.asked.CompareAndSwap(asked, asked/2) {
			continue
		}
		for _, o := range tier {
			if o.Candidate != t.Candidate {
				o.asked.Add(-o.asked.Load() / 2)
			}
		}
		return
	}
}

// byWeight draws one.
func (tier Tier) byWeight() int {
	total := 0
	for _, t := range tier {
		total += t.Weight
	}
	at := rand.IntN(total)
	for i, t := range tier {
		if at -= t.Weight; at < 0 {
			return i
		}
	}
	return len(tier) - 1
}

// ofCaller adds the targets in the order that is a caller's own, at every replica: by weighted rendezvous hashing, so
// that a target which comes or goes moves only the callers that it gets or had.
// https://www.ietf.org/archive/id/draft-ietf-bess-weighted-hrw-00.html
func (tier Tier) ofCaller(order []*Candidate, caller string) []*Candidate {
	type scored struct {
		*Candidate
		score float64
	}
	all := make([]scored, len(tier))
	for i, t := range tier {
		all[i] = scored{t.Candidate, float64(t.Weight) / -math.Log(share(caller, t.Name))}
	}
	slices.SortStableFunc(all, func(a, b scored) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return 0
	})
	for _, s := range all {
		order = append(order, s.Candidate)
	}
	return order
}

// share is a number between 0 and 1 that a caller and a name have together.
func share(caller, name string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(caller + "\x00" + name))
	x := h.Sum64() // whose upper bits hardly differ for names that end alike: splitmix64's last steps mend that
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return (float64(x>>11) + 0.5) / (1 << 53)
}

// rememberedFirst moves the candidate to the front whose provider wants back what a request carries, unless it is not
// to be had: for all others that would be lost.
func (r *Route) rememberedFirst(order []*Candidate, req *chat.Request, caller string) {
	place := placeOf(req)
	if place == "" {
		return
	}
	for i, c := range order {
		model, ok := c.model(req.Model)
		if ok && c.Place != nil && c.Place(model) == place && !c.Breaker.open(model, caller) {
			copy(order[1:i+1], order[:i])
			order[0] = c
			return
		}
	}
}

// placeOf is where the last answer was made that a request brings back, "" when that is not known.
func placeOf(req *chat.Request) string {
	for _, m := range slices.Backward(req.Messages) {
		if m.State != "" {
			return format.PlaceOf(m.State)
		}
	}
	return ""
}
