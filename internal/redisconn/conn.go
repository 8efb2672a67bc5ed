// Package redisconn is the way to Redis: one client, what of its servers can be used now, and scripts. A server
// that is away or refuses writes is found out by those who use it, and then asked again by a probe, so that
// nobody waits for it in between.
package redisconn

import (
	"context"
	_ "embed"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// idle is how long no write may have gone well before a node is probed all the same.
const idle = 5 * time.Second

// Conn is a connection to one Redis, be it a server, a Sentinel's or a Cluster. It is safe for concurrent use.
type Conn struct {
	o      Options
	option rueidis.ClientOption

	client atomic.Pointer[rueidis.Client] // nil until Redis was reached for the first time
	layout atomic.Pointer[layout]

	stopping context.Context // ends with Close
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// Open makes a connection. Redis need not be there yet. The error is about the URL.
func Open(o Options) (*Conn, error) {
	option, err := o.option()
	if err != nil {
		return nil, err
	}
	c := &Conn{o: o, option: option}
	c.stopping, c.stop = context.WithCancel(context.Background())
	name := option.InitAddress[0]
	if set := option.Sentinel.MasterSet; set != "" {
		name = set
	}
	c.layout.Store(&layout{nodes: []*Node{{name: name}}})
	c.check()
	c.running.Go(c.watch)
	if o.Evicts != nil {
		c.running.Go(c.askPolicy)
	}
	return c, nil
}

// Close lets go of Redis.
func (c *Conn) Close() {
	c.stop()
	c.running.Wait()
	if client := c.client.Load(); client != nil {
		(*client).Close()
	}
}

// Node is where key is.
func (c *Conn) Node(key string) *Node { return c.layout.Load().node(key) }

// Nodes are all that are known.
func (c *Conn) Nodes() []*Node { return c.layout.Load().nodes }

// States says how many nodes are in each state, as Options.Changed was told.
func (c *Conn) States() (count [3]int) {
	for _, n := range c.Nodes() {
		n.mu.Lock()
		count[n.told]++
		n.mu.Unlock()
	}
	return count
}

// Client is for commands whose results tell nothing about a node, such as a subscription. The error is ErrAway
// when Redis was never reached.
func (c *Conn) Client() (rueidis.Client, error) {
	client := c.client.Load()
	if client == nil {
		return nil, ErrAway
	}
	return *client, nil
}

// Build makes the commands of one call. It is called at most once.
type Build func(b rueidis.Builder) rueidis.Commands

// Do sends commands about keys of node n in one round trip, within CallTimeout, and learns from the results how n
// is, unless ctx has ended meanwhile. When n is away, nothing is sent and the error is ErrAway.
func (c *Conn) Do(ctx context.Context, n *Node, build Build) ([]rueidis.RedisResult, error) {
	client := c.client.Load()
	if client == nil || n.State() == Away {
		return nil, ErrAway
	}
	timed, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	results := (*client).DoMulti(timed, build((*client).B())...)
	c.learn(ctx, client, n, results)
	return results, nil
}

func (c *Conn) learn(ctx context.Context, used *rueidis.Client, n *Node, results []rueidis.RedisResult) {
	if ctx.Err() != nil {
		return // whoever asked has left, or had less patience than CallTimeout
	}
	for _, r := range results {
		err := r.Error()
		if errors.Is(err, rueidis.ErrClosing) && c.client.Load() != used {
			continue // by connect, which had a better client
		}
		n.note(err)
	}
}

// watch looks after the nodes until Close.
func (c *Conn) watch() {
	tick := time.NewTicker(c.o.Probe)
	defer tick.Stop()
	for {
		select {
		case <-c.stopping.Done():
			return
		case <-tick.C:
			c.check()
		}
	}
}

// check probes the nodes that are not up, or were not used for a while, and tells what has changed.
func (c *Conn) check() {
	if c.client.Load() == nil {
		c.connect()
	}
	c.lookAround()
	var probes sync.WaitGroup
	for _, n := range c.Nodes() {
		n.mu.Lock()
		due := n.state != Up || time.Since(n.answered) > idle
		n.mu.Unlock()
		if due {
			probes.Go(func() { c.probe(n) })
		}
	}
	probes.Wait()
	for _, n := range c.Nodes() {
		n.tell(c.o.Settle, c.o.Changed)
	}
}

// connect makes a client. One that is there already stays in use until then, and when none can be made.
func (c *Conn) connect() {
	made, err := rueidis.NewClient(c.option)
	if err != nil {
		if c.client.Load() == nil {
			c.Nodes()[0].set(Away, err)
		}
		return
	}
	if old := c.client.Swap(&made); old != nil {
		(*old).Close()
	}
}

var (
	//go:embed lua/probe.lua
	probeLua    string
	probeScript = NewScript(probeLua)
)

// probe finds out how n is, by a write such as those that it is asked for: PING is answered by a server that
// takes none, and also by one that is some other server's replica by now.
func (c *Conn) probe(n *Node) {
	client := c.client.Load()
	if client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.stopping, CallTimeout)
	defer cancel()
	known := "0"
	if n.knew() {
		known = "1"
	}
	err := probeScript.do(ctx, *client,
		[]Run{{Keys: n.probeKeys(), Args: []string{millis(probeLife), known, millis(lately)}}})[0].Error()
	if c.stopping.Err() != nil {
		return
	}
	s, about := judge(err)
	if !about {
		s = Away
	}
	changed := n.set(s, err)
	if reply, ok := rueidis.IsRedisErr(err); ok && has(reply.Error(), []string{"READONLY"}) &&
		!c.layout.Load().cluster {
		// Behind one address, another server has become the primary. The connection still leads to the old one.
		c.connect()
		return
	}
	if changed && s == Up && c.o.Moved != nil {
		c.o.Moved()
	}
}

// probeLife is how long a probe's key stays. While a node is up it is written anew at least every idle, so the key is
// missing only where the node has lost its data. That is remembered for as long as lately, by a second key.
const (
	probeLife = 10 * time.Second
	lately    = 5 * time.Second
)

// Emptied says whether n, which is up, has just lost all that it had: it was flushed, or restarted so quickly that it
// was never seen away. What has been there may then come back, when those who know of it write it again.
func (c *Conn) Emptied(ctx context.Context, n *Node) bool {
	keys, known := n.probeKeys(), n.knew()
	results, err := c.Do(ctx, n, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Exists().Key(keys[0]).Build(), b.Exists().Key(keys[1]).Build()}
	})
	if err != nil {
		return false
	}
	probed, err := results[0].AsBool()
	if err != nil {
		return false
	}
	lost, _ := results[1].AsBool()
	return lost || known && !probed
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// probeKey is a key in a slot.
func probeKey(slot uint16) string {
	for i := 0; ; i++ {
		if key := "relay:probe:{" + strconv.Itoa(i) + "}"; slotOf(key) == slot {
			return key
		}
	}
}
