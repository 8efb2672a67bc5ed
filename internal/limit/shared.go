package limit

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/redisconn"
)

// Probe is how often Redis is asked whether it is back.
const Probe = 500 * time.Millisecond

const (
	reserveTime = 250 * time.Millisecond // for Redis to answer whoever waits, once: then it is away
	tries       = 4                      // while others are answered, and this process gets too little of the CPU
	streamLease = 15 * time.Second
	askAgain    = Probe
	afterLong   = 10 * time.Minute // that a reservation is kept beyond the longest answer
	longestEver = 24 * time.Hour   // that it is kept where answers have no cap
	maxUnsaid   = 1 << 16          // settlements that wait for Redis
	oldest      = 10 * time.Minute // that they wait
	batch       = 128              // scripts in one round trip
	lastWords   = time.Second      // for settlements when the process ends
)

var (
	//go:embed lua/reserve.lua
	reserveLua string
	//go:embed lua/settle.lua
	settleLua string
	//go:embed lua/renew.lua
	renewLua string

	reserveScript = redisconn.NewScript(reserveLua)
	settleScript  = redisconn.NewScript(settleLua)
	renewScript   = redisconn.NewScript(renewLua)
)

// shared keeps what callers have used in Redis. A reservation has a key of its own there until it is settled. So it is
// settled once, however often Redis is asked to, and one of which nobody knows whether it came there can be cancelled.
type shared struct {
	conn  *redisconn.Conn
	life  time.Duration // of a reservation
	lease time.Duration // that a stream counts without a word of its replica
	name  string        // of this process, in ids
	last  atomic.Uint64

	health  health
	refuses atomic.Bool  // what it is asked
	toldOf  atomic.Int64 // in seconds since 1970, when refused was called
	refused func(error)  // may be nil

	stop    context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{}

	mu     sync.Mutex // guards what follows
	unsaid []settlement
	lost   uint64                    // settlements that were given up
	open   map[*Reservation]struct{} // with streams
	own    map[string]int            // how many of open a caller has, by the key of its streams
}

// keys are those of one reservation, all in one slot of a Cluster: what its caller has used, its caller's streams, and
// its own.
type keys [3]string

func (k *keys) streams() string { return k[1] }
func (k *keys) own() string     { return k[2] }

// settlement is what is to be told to Redis of an answer that has ended.
type settlement struct {
	run   redisconn.Run
	since time.Time
}

func newShared(o LimiterOptions) *shared {
	life := longestEver
	if o.Longest > 0 {
		life = o.Longest + afterLong
	}
	s := &shared{
		conn: o.Redis, lease: cmp.Or(o.Lease, streamLease), life: life, name: rand.Text()[:10], refused: o.Refused,
		health: health{start: time.Now()}, wake: make(chan struct{}, 1), open: make(map[*Reservation]struct{}),
		own: make(map[string]int),
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.work(ctx) })
	return s
}

// close tells Redis what is left to tell, once.
func (s *shared) close() {
	s.stop()
	s.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	s.flush(ctx)
}

func keysOf(caller, id string) keys {
	const prefix, used, streams, open = "relay:limit:{0123456789abcdef01234567}:", "used", "streams", "open:"
	hash := sha256.Sum256([]byte(caller))
	all := make([]byte, 0, 3*len(prefix)+len(used+streams+open)+len(id)) // in one piece: each request has its own
	add := func(name string) {
		all = append(all, "relay:limit:{"...)
		all = append(hex.AppendEncode(all, hash[:12]), "}:"...)
		all = append(all, name...)
	}
	add(used)
	add(streams)
	add(open)
	text := string(append(all, id...))
	first, second := len(prefix+used), len(prefix+used)+len(prefix+streams)
	return keys{text[:first], text[first:second], text[second:]}
}

// reserve takes all that r wants, or nothing. here are the caller's streams in this process of which Redis does not
// know.
//
// Errors: *Exceeded; anything else means that Redis can't be asked.
func (s *shared) reserve(r *Reservation, here int) error {
	r.id = s.name + strconv.FormatUint(s.last.Add(1), 36)
	r.key = keysOf(r.caller, r.id)
	l := &r.limits
	each1, full1 := l.Requests.each()
	each2, full2 := l.Tokens.each()
	run := redisconn.Run{Keys: r.key[:], Args: []string{
		pack(each1, full1, each2, full2, float64(r.tokens), float64(l.TokensPerDay), s.mostStreams(r, here),
			float64(s.lease.Milliseconds()), float64(s.life.Milliseconds())),
		r.id,
	}}
	untold := s.untold(r.key[0])
	answer, err := s.runReserve(run)
	if err == nil && len(untold) > 0 && answer[0] == 0 {
		s.insist(untold)
		answer, err = s.runReserve(run)
	}
	if err != nil || len(answer) < 9 {
		if !errors.Is(err, redisconn.ErrAway) {
			s.end(r, -r.tokens, true, true) // it may be there all the same
		}
		return errors.Join(errAsking, err)
	}
	left := micros(float64(answer[8])) // of the day, which is Redis' own
	r.stand = standings(l, float64(answer[5]), float64(answer[6]), answer[7], left)
	if answer[0] == 1 {
		s.watch(r)
		return nil
	}
	var wait [2]float64 // for the day, and for streams
	if answer[4] == 1 {
		wait[0] = float64(left.Microseconds())
	}
	if answer[3] == 1 {
		wait[1] = float64(shortestWait.Microseconds())
	}
	refused := longest(float64(answer[1]), float64(answer[2]), wait[0], wait[1])
	refused.Stand = r.stand
	return refused
}

var errAsking = errors.New("asking Redis for a reservation")

// untold are the caller's answers that have ended here and of whose end Redis may not have heard, the last ones at
// least.
func (s *shared) untold(used string) (runs []redisconn.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.unsaid[max(0, len(s.unsaid)-batch):] {
		if one.run.Keys[0] == used {
			runs = append(runs, one.run)
		}
	}
	return runs
}

// insist tells Redis at once what work is about to. Who asks as soon as it has its answer is not refused for that
// answer.
func (s *shared) insist(runs []redisconn.Run) {
	ctx, cancel := context.WithTimeout(context.Background(), reserveTime)
	defer cancel()
	s.conn.Run(ctx, s.conn.Node(runs[0].Keys[0]), settleScript, runs...)
}

// pack writes numbers as the scripts read them.
func pack(numbers ...float64) string {
	packed := make([]byte, 0, 72)
	for _, n := range numbers {
		packed = binary.LittleEndian.AppendUint64(packed, math.Float64bits(n))
	}
	return string(packed)
}

// runReserve runs the script that reserves. It may be run again: what it has done once it does not do twice. The error
// is ErrAway only if it was never sent: a first try that was not answered in time may come to Redis all the same, also
// where others find out that it hangs before there is a second one.
func (s *shared) runReserve(run redisconn.Run) ([]int64, error) {
	node := s.conn.Node(run.Keys[0])
	pulse := s.health.of(node)
	var asked error
	for range tries {
		began := s.health.now()
		if !pulse.asks(began) {
			return nil, cmp.Or(asked, redisconn.ErrAway)
		}
		ctx, cancel := context.WithTimeout(context.Background(), reserveTime)
		answer, err := s.conn.Run(ctx, node, reserveScript, run)[0].AsIntSlice()
		late := ctx.Err() != nil
		cancel()
		now := s.health.now()
		s.note(node, err)
		if err == nil {
			pulse.alive(now)
			return answer, nil
		}
		if asked == nil || !errors.Is(err, redisconn.ErrAway) {
			asked = err
		}
		if !late || pulse.silent(began, now) {
			return nil, asked
		}
	}
	return nil, asked
}

// note learns whether Redis does what it is asked. One that is there and does not, because its user may not run a
// command for example, would go unseen otherwise: it is not away, and everybody is served as if it were.
func (s *shared) note(node *redisconn.Node, err error) {
	_, reply := rueidis.IsRedisErr(err)
	refuses := reply && node.State() == redisconn.Up && !redisconn.Moving(err)
	if s.refuses.Load() == refuses || s.refuses.Swap(refuses) == refuses || !refuses || s.refused == nil {
		return
	}
	told, now := s.toldOf.Load(), time.Now().Unix()
	if now-told >= 60 && s.toldOf.CompareAndSwap(told, now) {
		s.refused(err)
	}
}

// up tells whether Redis can be asked, as far as is known.
func (s *shared) up() bool {
	for _, n := range s.conn.Nodes() {
		if n.State() != redisconn.Up {
			return false
		}
	}
	return s.health.up() && !s.refuses.Load()
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// watch has r's stream renewed until it is settled.
func (s *shared) watch(r *Reservation) {
	if r.limits.Streams == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[r] = struct{}{}
	s.own[r.key.streams()]++
}

// streams is how many run in this process by what Redis allowed.
func (s *shared) streams(key keys) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own[key.streams()]
}

// mostStreams is how many of r's caller Redis may know of when it allows one more, as the script has it. A Redis that
// has come back empty knows of none of those that it allowed before.
func (s *shared) mostStreams(r *Reservation, here int) float64 {
	most := r.limits.Streams
	if most > 0 && s.streams(r.key)+here >= most {
		return -1
	}
	return float64(most - here)
}

// unwatch ends watch. The caller of this holds mu.
func (s *shared) unwatch(r *Reservation) {
	if _, watched := s.open[r]; !watched {
		return
	}
	delete(s.open, r)
	key := r.key.streams()
	if s.own[key]--; s.own[key] == 0 {
		delete(s.own, key)
	}
}

// settle has Redis told of the end of r. It does not wait for it.
func (s *shared) settle(r *Reservation, tokens int64, cancelled bool) {
	s.end(r, tokens, cancelled, false)
}

// end is settle, also for a reservation that may come to Redis later than this, or never.
func (s *shared) end(r *Reservation, tokens int64, cancelled, unsure bool) {
	each1, _ := r.limits.Requests.each()
	each2, _ := r.limits.Tokens.each()
	told := settlement{since: time.Now(), run: redisconn.Run{Keys: r.key[:], Args: []string{
		pack(each1, each2, float64(tokens), flag(r.limits.TokensPerDay > 0), flag(cancelled), flag(unsure)), r.id,
	}}}
	s.mu.Lock()
	s.unwatch(r)
	if len(s.unsaid) < maxUnsaid {
		s.unsaid = append(s.unsaid, told)
	} else {
		s.lost++
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// work settles as answers end, and renews streams, until ctx does.
func (s *shared) work(ctx context.Context) {
	renew, again := time.NewTicker(s.lease/3), time.NewTicker(askAgain)
	defer renew.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			s.flush(ctx)
		case <-again.C:
			s.flush(ctx)
		case <-renew.C:
			s.renew(ctx)
		}
	}
}

// flush tells Redis what there is to tell. What can't be told now is kept for later.
func (s *shared) flush(ctx context.Context) {
	s.mu.Lock()
	all := s.unsaid
	s.mu.Unlock()
	if len(all) == 0 {
		return
	}
	kept := s.tell(ctx, all)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaid = append(kept, s.unsaid[len(all):]...) // others came meanwhile
}

// tell gives those of which Redis did not hear.
func (s *shared) tell(ctx context.Context, all []settlement) (kept []settlement) {
	byNode := make(map[*redisconn.Node][]settlement)
	for _, one := range all {
		n := s.conn.Node(one.run.Keys[0])
		byNode[n] = append(byNode[n], one)
	}
	for n, list := range byNode {
		for len(list) > 0 {
			part := list[:min(len(list), batch)]
			list = list[len(part):]
			runs := make([]redisconn.Run, len(part))
			for i := range part {
				runs[i] = part[i].run
			}
			for i, result := range s.conn.Run(ctx, n, settleScript, runs...) {
				if s.worthAnother(&part[i], result) {
					kept = append(kept, part[i])
				}
			}
		}
	}
	return kept
}

func (s *shared) worthAnother(one *settlement, result rueidis.RedisResult) bool {
	err := result.Error()
	if err == nil {
		return false
	}
	if !redisconn.Concerns(err) && time.Since(one.since) < oldest {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost++
	return false
}

// renew keeps the streams of this process from counting as a dead one's.
func (s *shared) renew(ctx context.Context) {
	runs := make(map[*redisconn.Node][]redisconn.Run)
	s.mu.Lock()
	for r := range s.open {
		n := s.conn.Node(r.key.own())
		runs[n] = append(runs[n], redisconn.Run{
			Keys: []string{r.key.streams(), r.key.own()}, Args: []string{r.id, millis(s.lease)},
		})
	}
	s.mu.Unlock()
	for n, all := range runs {
		for len(all) > 0 {
			part := all[:min(len(all), batch)]
			all = all[len(part):]
			s.conn.Run(ctx, n, renewScript, part...)
		}
	}
}
