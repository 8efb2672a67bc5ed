package redisconn

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/redis/rueidis"
)

// Options say how Redis is reached, and who is told of it.
type Options struct {
	// URL is of the redis, rediss or unix scheme. Further nodes as `addr` and a Sentinel's `master_set` are
	// parameters of it.
	URL string

	// What a URL can't say.
	RootCAs                        *x509.CertPool // whom to trust with a rediss URL; nil: the system's
	SentinelUser, SentinelPassword string         // at the Sentinels; those in the URL are for Redis itself

	Probe time.Duration // how often a node is asked that is not up

	// Settle is how long a node has to be up before Changed is told so. A Redis whose memory is just full takes
	// one write and refuses the next.
	Settle time.Duration

	// Changed, when set, is called for each change of a node's state, with the reason when it is not up. Calls
	// follow one another.
	Changed func(node string, s State, reason error)
	// Moved, when set, is called at once when a node can be used again, and when keys are on another node than
	// before. It must not wait.
	Moved func()
	// Evicts, when set, is called once with the maxmemory-policy of a Redis that drops keys when it is full.
	Evicts func(policy string)
}

// CallTimeout bounds any call to Redis.
const CallTimeout = time.Second

// option is o as the client library takes it. The error is about the URL.
func (o *Options) option() (rueidis.ClientOption, error) {
	c, err := rueidis.ParseURL(o.URL)
	if err != nil {
		// The parser's message may quote the URL, and so a password.
		return c, errors.New("not a Redis URL such as redis://user:password@host:6379/0")
	}
	c.DisableCache = true // nothing is read twice
	c.DisableRetry = true // what to do again is decided by who asked
	// One connection to each node: what is asked about a write is asked behind it. See stream's rounds.
	c.PipelineMultiplex = -1
	c.ReadBufferEachConn, c.WriteBufferEachConn = 64<<10, 64<<10
	if c.Dialer.Timeout == 0 {
		c.Dialer.Timeout = CallTimeout
	}
	if c.ConnWriteTimeout == 0 {
		c.ConnWriteTimeout = 2 * CallTimeout
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
