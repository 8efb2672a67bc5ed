package stream

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/redisconn"
)

// recorded says whether Redis has a record of g, which it makes if need be: of a stream that began while
// Redis was away, or that Redis has lost. So the first round of a stream that has none takes more trips.
func (s *store) recorded(ctx context.Context, g *generation, writable bool) bool {
	m := &g.mirror
	if m.closed.Load() {
		return false
	}
	if !m.created.Load() {
		if !writable || !s.publish(ctx, g) {
			return false
		}
	}
	if s.asks(g) {
		s.claimOwed(ctx, g)
	}
	return true
}

// asks says whether recorded has something to ask Redis for g.
func (s *store) asks(g *generation) bool {
	m := &g.mirror
	return !m.created.Load() || m.owed.Load() && s.conn.Node(claimKey(g.key)).State() == redisconn.Up
}

// publish makes the record of g in Redis. Its log follows, from the beginning.
func (s *store) publish(ctx context.Context, g *generation) bool {
	m := &g.mirror
	first := m.keys == nil
	made, err := s.createKeys(ctx, g)
	if err != nil {
		if redisconn.Concerns(err) {
			s.hub.troubled(err)
		} else {
			s.queue(g, lazy)
		}
		return false
	}
	if first {
		m.keys = keysOf(g.id)
		s.hub.published.Add(1)
	}
	m.at, m.sent, m.unsure, m.renewed = place{}, 0, !made, time.Time{}
	m.owed.Store(g.key != "") // Redis may have lost that, too
	m.created.Store(true)
	return true
}

func keysOf(id string) []string {
	return []string{metaKey(id), logKey(id), leaseKey(id), watchKey(id)}
}

// createKeys makes the keys of g in Redis, unless they are there.
func (s *store) createKeys(ctx context.Context, g *generation) (made bool, err error) {
	return s.conn.Run(ctx, s.node(g.id), createScript, redisconn.Run{
		Keys: keysOf(g.id)[:3],
		Args: []string{
			s.replica, g.owner, millis(s.leases.For), millis(s.keep()),
			recordFormat, string(appendHead(nil, &g.head)), g.key,
		},
	})[0].AsBool()
}

// claimOwed claims the idempotency key of a stream that began without. Whoever has it by now has asked while nobody
// could know of g, which goes on without a key then.
func (s *store) claimOwed(ctx context.Context, g *generation) {
	m := &g.mirror
	if m.former != "" {
		_, _ = s.conn.Do(ctx, s.node(m.former), func(b rueidis.Builder) rueidis.Commands {
			return rueidis.Commands{b.Del().Key(keysOf(m.former)[:3]...).Build()}
		})
	}
	stale := ""
	if m.former != "" {
		stale = claimValue(m.former, g.body)
	}
	holder, _, err := s.claim(ctx, g, stale)
	if err != nil && !redisconn.Concerns(err) {
		return // and is owed
	}
	m.owed.Store(false)
	if err == nil && holder != g.id { // with an error it is known here, if nowhere else
		s.hub.loseKey(g)
	}
}

func claimValue(id string, body [32]byte) string { return id + " " + hex.EncodeToString(body[:]) }

// claim gives g its idempotency key, unless another stream has it that can still be read. It says which
// stream holds the key, and for which body. A holder with the value stale is known to be no more.
func (s *store) claim(ctx context.Context, g *generation, stale string) (holder string, body [32]byte, err error) {
	node := s.conn.Node(claimKey(g.key))
	for {
		value, err := s.conn.Run(ctx, node, claimScript, redisconn.Run{
			Keys: []string{claimKey(g.key)},
			Args: []string{claimValue(g.id, g.body), millis(s.life()), stale},
		})[0].ToString()
		if err != nil {
			return "", body, err
		}
		id, digits, _ := strings.Cut(value, " ")
		if b, err := hex.DecodeString(digits); err != nil || copy(body[:], b) != len(body) {
			stale = value // whoever wrote that, it leads to no stream
			continue
		}
		if id == g.id {
			return id, body, nil
		}
		gone, err := s.gone(ctx, id)
		if !gone || err != nil {
			return id, body, err
		}
		stale = value
	}
}

// holder says which stream has an idempotency key, for the same body. It is empty when there is none, or that can't be
// told now.
func (s *store) holder(ctx context.Context, key string, body [32]byte) string {
	results, err := s.conn.Do(ctx, s.conn.Node(claimKey(key)), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Get().Key(claimKey(key)).Build()}
	})
	if err != nil {
		return ""
	}
	value, _ := results[0].ToString()
	id, digits, _ := strings.Cut(value, " ")
	if digits != hex.EncodeToString(body[:]) {
		return ""
	}
	if gone, err := s.gone(ctx, id); gone || err != nil {
		return ""
	}
	return id
}

// leadingTo is what has the keys that lead to streams, idempotency keys and chats, stay for as long as keep.
func leadingTo(of []*generation, keep time.Duration) (runs []redisconn.Run) {
	for _, g := range of {
		if g.key != "" && !g.mirror.owed.Load() {
			runs = append(runs, keepKey(claimKey(g.key), g.id, keep))
		}
		if g.chat != "" {
			runs = append(runs, keepKey(chatKey(g.chat), g.id, keep))
		}
	}
	return runs
}

func keepKey(key, id string, keep time.Duration) redisconn.Run {
	return redisconn.Run{Keys: []string{key}, Args: []string{id, millis(keep)}}
}

// maxLate bounds the keys whose node was not to be had when their streams ended. Those beyond it stay for as long as a
// live stream may.
const maxLate = 10_000

// expireKeys has keys expire with their streams, which have ended. Where the node of one is not to be had it is tried
// again with each beat.
func (s *store) expireKeys(ctx context.Context, runs []redisconn.Run) {
	s.onEachNode(runs, func(n *redisconn.Node, runs []redisconn.Run) {
		for i, result := range s.conn.Run(context.WithoutCancel(ctx), n, keepScript, runs...) {
			if err := result.Error(); err != nil && !redisconn.Concerns(err) {
				s.late(runs[i])
			}
		}
	})
}

// renewKeys has the keys of streams that go on stay. One that ends at this moment may have had its keys expire with it
// before: then they would stay as if it lived, so they expire once more.
func (s *store) renewKeys(ctx context.Context, of []*generation) {
	s.onEachNode(leadingTo(of, s.life()), func(n *redisconn.Node, runs []redisconn.Run) {
		s.conn.Run(context.WithoutCancel(ctx), n, keepScript, runs...)
		live := func(g *generation) bool { return !g.mirror.closed.Load() }
		s.expireKeys(ctx, leadingTo(slices.DeleteFunc(slices.Clone(of), live), s.keep()))
	})
}

// onEachNode calls do for the runs of each node, side by side. The nodes of keys that lead to streams may be others
// than the streams', which do not wait for them.
func (s *store) onEachNode(runs []redisconn.Run, do func(n *redisconn.Node, runs []redisconn.Run)) {
	of := map[*redisconn.Node][]redisconn.Run{}
	for _, r := range runs {
		n := s.conn.Node(r.Keys[0])
		of[n] = append(of[n], r)
	}
	for n, runs := range of {
		s.running.Go(func() { do(n, runs) })
	}
}

func (s *store) late(r redisconn.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lateKeys) < maxLate {
		s.lateKeys = append(s.lateKeys, r)
	}
}

// keepLate tries again what expireKeys could not do.
func (s *store) keepLate() {
	s.mu.Lock()
	runs := s.lateKeys
	s.lateKeys = nil
	s.mu.Unlock()
	s.expireKeys(s.stopping, runs)
}
