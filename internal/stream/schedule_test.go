package stream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

// schedule is a random history of one stream: what the provider says when, when clients leave and
// come back, a stop, a death. It is the same for the same seed, as far as goroutines allow.
type schedule struct {
	t        *testing.T
	rand     *rand.Rand
	replicas []*replica
	words    int
	stopAt   int // after which word the user stops it, or -1
	dieAt    int // after which word its producer dies, or -1
}

type replica struct {
	hub  *stream.Hub
	way  *redistest.Proxy // nil: it cannot die
	dead context.Context
	die  context.CancelFunc
}

func newReplica(h *stream.Hub, way *redistest.Proxy) *replica {
	r := &replica{hub: h, way: way}
	r.dead, r.die = context.WithCancel(context.Background())
	return r
}

// run plays the schedule. Whatever happens, what each client puts together is a prefix of what the
// provider said, and all of it when it ends with done.
func (s *schedule) run() {
	p := newProvider()
	f := start(s.t, s.replicas[0].hub, p.produce)
	id := f.ID()
	var clients sync.WaitGroup
	for range 4 {
		seed := s.rand.Uint64()
		clients.Go(func() { s.client(id, rand.New(rand.NewPCG(seed, 1))) })
	}
	clients.Go(func() {
		defer f.Close()
		for i := range s.words {
			select {
			case p.say <- fmt.Sprintf("w%d ", i):
			case <-p.gone:
				return
			}
			time.Sleep(time.Duration(s.rand.IntN(4)) * time.Millisecond)
			if i == s.stopAt {
				h := s.replicas[len(s.replicas)-1].hub
				require.NoError(s.t, h.Stop(context.Background(), "me", id))
			}
			if i == s.dieAt {
				s.replicas[0].die()
				s.replicas[0].way.Cut()
				return
			}
		}
		p.say <- stop
	})
	clients.Wait()
}

// client follows id to its end over many connections.
func (s *schedule) client(id string, rand *rand.Rand) {
	whole := wordsText(0, s.words)
	var text string
	var cursor uint64
	for {
		r := s.replicas[rand.IntN(len(s.replicas))]
		left := 1 + rand.IntN(30)
		got, err := connection(r, id, cursor, left)
		text += got.text
		for _, seq := range got.seqs {
			if seq <= cursor {
				s.t.Errorf("position %d after %d", seq, cursor)
			}
			cursor = seq
		}
		if !strings.HasPrefix(whole, text) {
			s.t.Errorf("not a prefix: %q", text)
			return
		}
		own, ok := errors.AsType[*chat.Error](err)
		switch {
		case got.done != nil:
			if got.done.FinishReason == chat.FinishStop && text != whole {
				s.t.Errorf("done after %q", text)
			}
			if got.done.FinishReason == chat.FinishStopped && s.stopAt < 0 {
				s.t.Error("stopped by nobody")
			}
			return
		case ok && own.Code == chat.ProducerLost && s.dieAt >= 0:
			return
		case ok && own.Code == chat.Overloaded: // Redis is out of that replica's reach
			time.Sleep(10 * time.Millisecond)
		case err != nil && !errors.Is(err, context.Canceled):
			s.t.Errorf("ends with %v", err)
			return
		}
	}
}

// connection reads some chunks from one replica, or until that dies.
func connection(r *replica, id string, cursor uint64, left int) (reading, error) {
	ctx, cancel := context.WithTimeout(r.dead, patience)
	defer cancel()
	if r.dead.Err() != nil {
		return reading{}, context.Canceled
	}
	f, err := r.hub.Attach(ctx, "me", id, cursor)
	if err != nil {
		if r.dead.Err() != nil {
			err = context.Canceled
		}
		return reading{}, err
	}
	got := readUntil(ctx, f, func(reading) bool { left--; return left == 0 })
	return got, got.err
}

func TestNoScheduleLosesOrDoublesAnythingInMemory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			h := stream.New(options())
			defer closeNow(h)
			s := &schedule{t: t, rand: rand.New(rand.NewPCG(seed, 0)), replicas: []*replica{newReplica(h, nil)},
				stopAt: -1, dieAt: -1}
			s.words = 1 + s.rand.IntN(200)
			if seed%3 == 0 {
				s.stopAt = s.rand.IntN(s.words)
			}
			s.run()
		})
	}
}

// Invariants: one log; every position reads the same.
func TestNoScheduleLosesOrDoublesAnythingInRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			s := &schedule{t: t, rand: rand.New(rand.NewPCG(seed, 0)), stopAt: -1, dieAt: -1}
			for range 3 {
				way := redistest.Through(t, server.Addr)
				s.replicas = append(s.replicas, newReplica(open(t, options(), "redis://"+way.Addr), way))
			}
			s.words = 20 + s.rand.IntN(200)
			switch seed % 4 {
			case 0:
				s.stopAt = s.rand.IntN(s.words)
			case 1:
				s.dieAt = s.rand.IntN(s.words)
			}
			s.run()
		})
	}
}
