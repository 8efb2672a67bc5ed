package stream

import "time"

// Leases are the times by which replicas know of each other through Redis. Those who share a Redis must have
// the same ones. A producer that dies is found out by any follower within For + Check + Confirm.
type Leases struct {
	For     time.Duration // how long a producer counts as alive after it last said so
	Renew   time.Duration // how often it says so; well below For
	Probe   time.Duration // how often Redis is asked while it is away
	Check   time.Duration // how often a follower elsewhere looks after the producer
	Confirm time.Duration // a lease must be missing so long: after an outage the producer comes first
	Settle  time.Duration // how long Redis must be well again before that is told
	Watch   time.Duration // how long a follower elsewhere counts; it says so with each check
}

// DefaultLeases hold where Options have none. A dead producer is found out in 11.5 s, which is below the 15 s
// of docs/protocol.md, 5.
var DefaultLeases = Leases{
	For:     6 * time.Second,
	Renew:   2 * time.Second,
	Probe:   500 * time.Millisecond,
	Check:   1500 * time.Millisecond,
	Confirm: 4 * time.Second,
	Settle:  5 * time.Second,
	Watch:   6 * time.Second,
}
