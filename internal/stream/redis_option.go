package stream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// connection is how Redis is reached, as url and o say. The error is about url.
func connection(o Options, url string) (rueidis.ClientOption, error) {
	c, err := rueidis.ParseURL(url)
	if err != nil {
		// The parser's message may quote the URL, and so a password.
		return c, errors.New("not a Redis URL such as redis://user:password@host:6379/0")
	}
	c.DisableCache = true // nothing is read twice
	c.DisableRetry = true // what to do again is decided here
	c.PipelineMultiplex = 1
	c.ReadBufferEachConn, c.WriteBufferEachConn = 64<<10, 64<<10
	if c.Dialer.Timeout == 0 {
		c.Dialer.Timeout = callTimeout
	}
	if c.ConnWriteTimeout == 0 {
		c.ConnWriteTimeout = 2 * callTimeout
	}
	if c.TLSConfig != nil {
		c.TLSConfig.RootCAs = o.RootCAs
	}
	if c.Sentinel.MasterSet != "" {
		c.Sentinel.TLSConfig, c.Sentinel.Dialer = c.TLSConfig, c.Dialer
		c.Sentinel.Username, c.Sentinel.Password = o.SentinelUser, o.SentinelPassword
		c.Sentinel.TopologyRefreshInterval = 5 * time.Second
	}
	return c, nil
}

// noEviction is the only policy under which a full Redis refuses new entries instead of dropping streams
// that run.
const noEviction = "noeviction"

// askPolicy tells Options.Evicts once of a Redis that drops streams when it is full. Where Redis does not say
// so, for want of the right to ask or because it is somebody's service, nothing is told.
func (s *store) askPolicy() {
	for s.stopping.Err() == nil {
		if c, err := s.conn(); err == nil {
			if policy := s.policy(c); policy != "" && policy != noEviction {
				s.hub.o.Evicts(policy)
			}
			return
		}
		s.pause(s.leases.Probe)
	}
}

// policy is the maxmemory-policy of Redis, or of the first node of a Cluster that has another than
// noeviction, or empty where it is not known.
func (s *store) policy(c rueidis.Client) (policy string) {
	ctx, cancel := context.WithTimeout(s.stopping, callTimeout)
	defer cancel()
	for _, node := range c.Nodes() {
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
