package stream

import (
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
)

// Options bound a Hub. All of them are per process.
type Options struct {
	// Grace is how long a generation goes on without a follower on any replica. With Redis replicas
	// hear of each other's followers every 2 s, so it should be 5 s at least.
	Grace time.Duration

	Retention time.Duration // how long a stream is kept after its end

	MaxDuration    time.Duration // of one generation; 0: no cap
	MaxStreamBytes int64         // of one stream's log; beyond it the stream ends with stream_too_long; 0: no cap

	// MaxBytes is what all streams together may take: logs, questions that are not answered yet, and what
	// else there is of a stream. A live one counts for at least 64 KiB. When it is not enough, ended streams
	// give way first, then the largest growing one of the caller (see Request.Share) with most bytes ends with
	// stream_too_long, and new ones of that caller are refused. 0: no cap.
	MaxBytes int64

	Leases Leases // between replicas; none: DefaultLeases

	// Generations are the places that answers run in. Each holds one until its provider has returned, whether
	// anybody reads it or not. Nil: there is no cap.
	Generations *limit.Places

	// Panicked, when set, is called with what went wrong in a Request's Ended.
	Panicked func(err error)

	// Appended, when set, is called for each round of writing to Redis with the time it took.
	Appended func(took time.Duration, err error)
	// Trouble, when set, is called when Redis refuses what concerns a single stream, as when somebody else has used
	// its key. It is called once a minute at most.
	Trouble func(err error)
}

// Outcome is what there is to say about a generation at its end.
type Outcome struct {
	ID       string
	Duration time.Duration // since Start
	First    time.Duration // from Start to the first chunk; 0 when there was none
	Chunks   uint64        // the terminal one not counted
	Bytes    int64         // of text and tool calls as logged
	Done     *chat.Completion
	Err      *chat.Error // nil when Done is not
	Fenced   bool        // others took this replica for dead, and have ended the stream with producer_lost
}

// Stats are the counters of a Hub since it was made, and its gauges.
type Stats struct {
	Live     int    // generations that run here
	Attached int    // followers here
	Bytes    int64  // that streams take in memory here
	Resumed  uint64 // followers that began behind the first chunk
	Expired  uint64 // generations cancelled because nobody followed them
	Lost     uint64 // streams of dead producers that were ended here
	Evicted  uint64 // ended streams that gave way to others before their retention was over
	Fenced   uint64 // streams from here that others have ended, because they took this replica for dead

	Published  uint64 // streams that began while Redis was not to be had, and came into it later
	KeysLost   uint64 // of those, and of those that Redis had lost: whose idempotency key somebody else had by then
	Held       int    // followers that wait for a stream which may be found yet
	StoreNodes [3]int // nodes of Redis in each redisconn.State; none with the memory log
}
