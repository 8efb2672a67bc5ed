package redisconn

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const slots = 16384 // of every Cluster

// layout says on which node a key is.
type layout struct {
	cluster bool
	asked   time.Time // when the Cluster last told it
	nodes   []*Node
	of      []uint16 // in a Cluster, the index of each slot's node
}

func (l *layout) node(key string) *Node {
	if !l.cluster {
		return l.nodes[0]
	}
	return l.nodes[l.of[slotOf(key)]]
}

// named gives the node of a name, or nil.
func (l *layout) named(name string) *Node {
	for _, n := range l.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// layoutAge is how old the layout may be. A failover shows earlier, by a node that is away.
const layoutAge = 5 * time.Second

// lookAround asks a Cluster which node has which slots, when that may have changed.
func (c *Conn) lookAround() {
	client, old := c.client.Load(), c.layout.Load()
	if client == nil || (*client).Mode() != rueidis.ClientModeCluster {
		return
	}
	fresh := time.Since(old.asked) < layoutAge
	for _, n := range old.nodes {
		fresh = fresh && n.State() == Up
	}
	if fresh {
		return
	}
	ctx, cancel := context.WithTimeout(c.stopping, CallTimeout)
	defer cancel()
	for addr, node := range (*client).Nodes() {
		answer, err := node.Do(ctx, node.B().ClusterSlots().Build()).ToArray()
		if err != nil || len(answer) == 0 {
			continue
		}
		made := newLayout(old, addr, answer)
		c.layout.Store(made)
		for _, n := range old.nodes {
			if made.named(n.name) == nil { // its slots are others' now, and nobody asks it any more
				n.set(Up, nil)
				n.tell(0, c.o.Changed)
			}
		}
		if c.o.Moved != nil {
			c.o.Moved()
		}
		return
	}
}

// newLayout reads the answer of CLUSTER SLOTS by the node at addr. Nodes keep what is known of them, and slots
// that nobody serves stay where they were.
func newLayout(old *layout, addr string, answer []rueidis.RedisMessage) *layout {
	l := &layout{cluster: true, asked: time.Now(), of: make([]uint16, slots)}
	index := func(name string, slot uint16) uint16 {
		for i, n := range l.nodes {
			if n.name == name {
				return uint16(i)
			}
		}
		n := old.named(name)
		if n == nil || !old.cluster {
			n = &Node{name: name, slot: slot}
		}
		l.nodes = append(l.nodes, n)
		return uint16(len(l.nodes) - 1)
	}
	served := make([]bool, slots)
	for _, part := range answer {
		from, to, name := slotRange(addr, part)
		for slot := max(from, 0); slot <= to && slot < slots; slot++ {
			l.of[slot], served[slot] = index(name, uint16(slot)), true
		}
	}
	for slot := range l.of {
		if !served[slot] && old.cluster {
			l.of[slot] = index(old.nodes[old.of[slot]].name, uint16(slot))
		}
	}
	return l
}

// slotRange reads one entry of CLUSTER SLOTS: first and last slot, then the nodes, the primary first. A node
// that does not know its own address gives none.
func slotRange(addr string, part rueidis.RedisMessage) (from, to int64, name string) {
	fields, _ := part.ToArray()
	if len(fields) < 3 {
		return 0, -1, ""
	}
	from, _ = fields[0].AsInt64()
	to, _ = fields[1].AsInt64()
	primary, _ := fields[2].ToArray()
	if len(primary) < 2 {
		return 0, -1, ""
	}
	host, _ := primary[0].ToString()
	port, _ := primary[1].AsInt64()
	if host == "" || host == "?" {
		host, _, _ = net.SplitHostPort(addr)
	}
	return from, to, net.JoinHostPort(host, strconv.FormatInt(port, 10))
}

// slotOf is where a Cluster has a key: CRC-16 of what stands in the first braces, or of all of it.
func slotOf(key string) uint16 {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}
