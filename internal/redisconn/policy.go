package redisconn

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// noEviction is the only policy under which a full Redis refuses new entries instead of dropping old ones.
const noEviction = "noeviction"

// askPolicy tells Options.Evicts once of a Redis that drops keys when it is full. Where Redis does not say so, for
// want of the right to ask or because it is somebody's service, nothing is told.
func (c *Conn) askPolicy() {
	tick := time.NewTicker(c.o.Probe)
	defer tick.Stop()
	for {
		if client, err := c.Client(); err == nil {
			if policy := c.policy(client); policy != "" && policy != noEviction {
				c.o.Evicts(policy)
			}
			return
		}
		select {
		case <-tick.C:
		case <-c.stopping.Done():
			return
		}
	}
}

// policy is the maxmemory-policy of Redis, or of the first node of a Cluster that has another than
// noeviction, or empty where it is not known.
func (c *Conn) policy(client rueidis.Client) (policy string) {
	ctx, cancel := context.WithTimeout(c.stopping, CallTimeout)
	defer cancel()
	for _, node := range client.Nodes() {
		info, err := node.Do(ctx, node.B().Info().Section("memory").Build()).ToString()
		if err != nil {
			continue
		}
		lines := strings.Fields(info)
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "maxmemory_policy:") })
		if i < 0 {
			continue
		}
		_, policy, _ = strings.Cut(lines[i], ":")
		if policy != noEviction {
			return policy
		}
	}
	return policy
}
