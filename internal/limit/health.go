package limit

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/websopy/relay/internal/redisconn"
)

// health tells whether it is worth asking the nodes of Redis. A node whose connection is gone says so itself, see
// redisconn. One that hangs is found out here: it has answered nobody for reserveTime. A process that gets too little
// of the CPU sees its calls run out of time as well, but there others are answered meanwhile, or all is late.
type health struct {
	nodes sync.Map // *redisconn.Node: *pulse
	start time.Time
}

// pulse is what is known of one node. Times are since the health's start.
type pulse struct {
	answered atomic.Int64
	again    atomic.Int64 // it is away, and to be asked again then; 0: it is there
}

func (h *health) now() int64 { return int64(time.Since(h.start)) }

func (h *health) of(n *redisconn.Node) *pulse {
	if p, ok := h.nodes.Load(n); ok {
		return p.(*pulse)
	}
	p, _ := h.nodes.LoadOrStore(n, &pulse{})
	return p.(*pulse)
}

// asks tells whether to ask a node. While it is away one caller may, now and then.
func (p *pulse) asks(now int64) bool {
	again := p.again.Load()
	return again == 0 || now >= again && p.again.CompareAndSwap(again, now+int64(Probe))
}

func (p *pulse) alive(now int64) {
	p.answered.Store(now)
	if p.again.Load() != 0 {
		p.again.Store(0)
	}
}

// silent notes that the node did not answer a call that began at a time and had reserveTime, and tells whether it is
// away. A call that learns late that its time is over is one of a process that has none itself.
func (p *pulse) silent(began, now int64) bool {
	if p.answered.Load() > began || now-began > int64(reserveTime+reserveTime/4) {
		return false
	}
	p.again.CompareAndSwap(0, now+int64(Probe))
	return true
}

// up tells whether no node is known to hang.
func (h *health) up() (up bool) {
	up = true
	h.nodes.Range(func(_, p any) bool {
		up = p.(*pulse).again.Load() == 0
		return up
	})
	return up
}
