package limit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
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
	life  string        // of a reservation, ms
	lease time.Duration // that a stream counts without a word of its replica
	name  string        // of this process, in ids
	last  atomic.Uint64

	health  health
	stop    context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{}

	mu     sync.Mutex // guards what follows
	unsaid []settlement
	lost   uint64                    // settlements that were given up
	open   map[*Reservation]struct{} // with streams
}

// keys are those of one reservation, all in one slot of a Cluster.
type keys struct{ requests, tokens, day, streams, reservation string }

func (k *keys) all() []string {
	return []string{k.requests, k.tokens, k.day, k.streams, k.reservation}
}

// settlement is what is to be told to Redis of an answer that has ended.
type settlement struct {
	key   string // of the reservation, which says on which node it is
	run   redisconn.Run
	since time.Time
}

func newShared(conn *redisconn.Conn, longest, lease time.Duration) *shared {
	life := longestEver
	if longest > 0 {
		life = longest + afterLong
	}
	s := &shared{
		conn: conn, lease: lease, life: millis(life), name: rand.Text()[:10],
		health: health{start: time.Now()}, wake: make(chan struct{}, 1), open: make(map[*Reservation]struct{}),
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

func keysOf(caller, id string, day int64) keys {
	hash := sha256.Sum256([]byte(caller))
	prefix := "relay:limit:{" + hex.EncodeToString(hash[:12]) + "}:"
	return keys{
		requests: prefix + "requests", tokens: prefix + "tokens", streams: prefix + "streams",
		day: prefix + "day:" + strconv.FormatInt(day, 10), reservation: prefix + "open:" + id,
	}
}

// reserve takes all that r wants, or nothing.
//
// Errors: *Exceeded; anything else means that Redis can't be asked.
func (s *shared) reserve(r *Reservation) error {
	now := time.Now()
	number, left := today(now)
	r.day = number
	r.id = s.name + strconv.FormatUint(s.last.Add(1), 36)
	r.key = keysOf(r.caller, r.id, number)
	l := &r.limits
	each1, full1 := l.Requests.each()
	each2, full2 := l.Tokens.each()
	run := redisconn.Run{Keys: r.key.all(), Args: []string{
		decimal(each1), decimal(full1), decimal(each2), decimal(full2), strconv.FormatInt(r.tokens, 10),
		strconv.FormatInt(l.TokensPerDay, 10), strconv.Itoa(l.Streams),
		r.id, millis(s.lease), s.life,
	}}
	answer, err := s.ask(run, r.key.reservation)
	if err != nil || len(answer) < 8 {
		if !errors.Is(err, redisconn.ErrAway) {
			s.end(r, -r.tokens, true, true) // it may be there all the same
		}
		return errors.Join(errAsking, err)
	}
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

// ask runs the script that reserves. It may be run again: what it has done once it does not do twice.
func (s *shared) ask(run redisconn.Run, key string) ([]int64, error) {
	node := s.conn.Node(key)
	pulse := s.health.of(node)
	var err error
	for range tries {
		began := s.health.now()
		if !pulse.asks(began) {
			return nil, redisconn.ErrAway
		}
		ctx, cancel := context.WithTimeout(context.Background(), reserveTime)
		var answer []int64
		answer, err = s.conn.Run(ctx, node, reserveScript, run)[0].AsIntSlice()
		late := ctx.Err() != nil
		cancel()
		now := s.health.now()
		if err == nil {
			pulse.alive(now)
			return answer, nil
		}
		if !late || pulse.silent(began, now) {
			return nil, err
		}
	}
	return nil, err
}

// up tells whether Redis can be asked, as far as is known.
func (s *shared) up() bool {
	for _, n := range s.conn.Nodes() {
		if n.State() != redisconn.Up {
			return false
		}
	}
	return s.health.up()
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func decimal(us float64) string { return strconv.FormatFloat(us, 'f', -1, 64) }

// watch has r's stream renewed until it is settled.
func (s *shared) watch(r *Reservation) {
	if r.limits.Streams == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[r] = struct{}{}
}

// settle has Redis told of the end of r. It does not wait for it.
func (s *shared) settle(r *Reservation, tokens int64, cancelled bool) {
	s.end(r, tokens, cancelled, false)
}

// end is settle, also for a reservation that may come to Redis later than this, or never.
func (s *shared) end(r *Reservation, tokens int64, cancelled, unsure bool) {
	each1, _ := r.limits.Requests.each()
	each2, _ := r.limits.Tokens.each()
	told := settlement{key: r.key.reservation, since: time.Now(), run: redisconn.Run{Keys: r.key.all(), Args: []string{
		decimal(each1), decimal(each2), strconv.FormatInt(tokens, 10), flag(r.limits.TokensPerDay > 0),
		flag(cancelled && r.limits.Requests.Count > 0), r.id, flag(unsure),
	}}}
	s.mu.Lock()
	delete(s.open, r)
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

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
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
		n := s.conn.Node(one.key)
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
	if err == nil || redisconn.Concerns(err) {
		return false
	}
	if time.Since(one.since) < oldest {
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
		n := s.conn.Node(r.key.reservation)
		runs[n] = append(runs[n], redisconn.Run{
			Keys: []string{r.key.streams, r.key.reservation}, Args: []string{r.id, millis(s.lease)},
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
