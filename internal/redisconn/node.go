package redisconn

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// State is how much of a node's work can be had.
type State int

// The states of a node.
const (
	Up       State = iota // it takes writes
	Refusing              // it serves reads and refuses writes: it is full, or read-only
	Away                  // it does not answer, or serves nobody for now
)

func (s State) String() string { return [...]string{"up", "refuses writes", "away"}[s] }

// Node is one of the servers that share the keys of a Cluster between them, or the one server that has all.
type Node struct {
	name string
	slot uint16 // one that it serves; where a Cluster has it look for the probe's keys

	probed sync.Once // guards keys
	keys   []string  // of the probe: see probeLife

	mu       sync.Mutex // guards what follows
	state    State
	reason   error     // why it is not up
	since    time.Time // of state; zero: it has been up from the beginning
	answered time.Time // when a write last went well
	told     State     // what Options.Changed knows
}

// probeKeys are the two keys of the probe, in one slot of the node.
func (n *Node) probeKeys() []string {
	n.probed.Do(func() {
		key := probeKey(n.slot)
		n.keys = []string{key, key + ":emptied"}
	})
	return n.keys
}

// knew says whether the probe's key is still to be there.
func (n *Node) knew() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state == Up && !n.answered.IsZero() && time.Since(n.answered) < probeLife-time.Second
}

// Name is its address, or the name under which Sentinels know it.
func (n *Node) Name() string { return n.name }

// State is the node's, as far as is known.
func (n *Node) State() State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// BackFor says for how long the node has been up again, and false when it has never been anything else.
func (n *Node) BackFor() (d time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.since.IsZero() || n.state != Up {
		return 0, false
	}
	return time.Since(n.since), true
}

// ErrAway is the result of what was not asked because the node does not answer.
var ErrAway = errors.New("redis is away")

// note learns from the result of a command. Only a probe learns that a node is up again.
func (n *Node) note(err error) {
	s, about := judge(err)
	if !about || s == Up {
		return
	}
	n.set(s, err)
}

// set changes the state, and says whether that was a change.
func (n *Node) set(s State, reason error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s == Up {
		n.answered = time.Now()
	}
	if s == n.state {
		return false
	}
	n.state, n.reason, n.since = s, reason, time.Now()
	return true
}

// tell calls changed when there is something new: what is worse at once, what is better when it has lasted
// for settle.
func (n *Node) tell(settle time.Duration, changed func(string, State, error)) {
	n.mu.Lock()
	state, reason := n.state, n.reason
	fresh := state > n.told || state < n.told && time.Since(n.since) >= settle
	if fresh {
		n.told = state
	}
	n.mu.Unlock()
	if fresh && changed != nil {
		changed(n.name, state, reason)
	}
}

// Codes of error replies that are about a node, and not about the command that it was given.
var (
	refusals = []string{"OOM", "READONLY", "NOREPLICAS", "MISCONF"}
	absences = []string{"LOADING", "CLUSTERDOWN", "MASTERDOWN", "BUSY", "NOAUTH", "WRONGPASS",
		"ERR max number of clients"}
)

// denied is the code of a command that the user may not run, for any key. That says nothing about other commands, some
// of which a user can do without. The probe tells whether the node is of use.
var denied = []string{"NOPERM"}

// judge says what err tells about the node that gave it, if it tells anything. Any other error reply, such as
// WRONGTYPE for a key that somebody else has used, concerns only who asked.
func judge(err error) (s State, about bool) {
	reply, ok := rueidis.IsRedisErr(err)
	switch {
	case err == nil || rueidis.IsRedisNil(err):
		return Up, true
	case errors.Is(err, context.Canceled) || errors.Is(err, ErrAway):
		return Up, false
	case !ok:
		return Away, true
	case has(reply.Error(), refusals):
		return Refusing, true
	case has(reply.Error(), absences):
		return Away, true
	}
	return Up, false
}

// has says whether an error reply has one of the codes. Up to Redis 6.2 the one of a command that a script runs is
// in the middle: "ERR Error running script (…): @user_script:9: -OOM command not allowed …".
func has(reply string, codes []string) bool {
	for _, code := range codes {
		if strings.HasPrefix(reply, code+" ") || strings.Contains(reply, " -"+code+" ") {
			return true
		}
	}
	return false
}

// moving are the codes of commands whose keys go from one node of a Cluster to another, and are on neither wholly, or
// not any more. That passes: who takes it for good has lost what it had to say while somebody added a node.
var moving = []string{"TRYAGAIN", "MOVED", "ASK"}

// Concerns says whether err is an error reply that concerns only the keys of the command that it answers, and will be
// the same when it is given again.
func Concerns(err error) bool {
	_, about := judge(err)
	reply, ok := rueidis.IsRedisErr(err)
	return ok && !about && !has(reply.Error(), denied) && !Moving(err)
}

// Moving says whether err is an error reply to a command whose keys are on their way from one node to another.
func Moving(err error) bool {
	reply, ok := rueidis.IsRedisErr(err)
	return ok && has(reply.Error(), moving)
}
