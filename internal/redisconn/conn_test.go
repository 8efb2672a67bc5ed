package redisconn_test

import (
	"context"
	"flag"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/leaktest"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // most of them wait; what the command line says holds
	leaktest.Main(m)
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

const (
	probe  = 50 * time.Millisecond
	settle = 500 * time.Millisecond
)

// change is one call of Options.Changed.
type change struct {
	node   string
	state  redisconn.State
	reason string
}

// told is a Conn and what it has told.
type told struct {
	*redisconn.Conn
	mu  sync.Mutex
	all []change
}

func open(t *testing.T, url string) *told {
	t.Helper()
	return openSettling(t, url, settle)
}

func openSettling(t *testing.T, url string, settle time.Duration) *told {
	t.Helper()
	c := &told{}
	var err error
	c.Conn, err = redisconn.Open(redisconn.Options{
		URL: url, Probe: probe, Settle: settle,
		Changed: func(node string, s redisconn.State, reason error) {
			text := ""
			if reason != nil {
				text = reason.Error()
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.all = append(c.all, change{node, s, text})
		},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func (c *told) changes() []change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]change(nil), c.all...)
}

// come waits until the last thing told is s, and gives the reason.
func (c *told) come(t *testing.T, s redisconn.State) string {
	t.Helper()
	var last change
	require.Eventually(t, func() bool {
		all := c.changes()
		if len(all) > 0 {
			last = all[len(all)-1]
		}
		return len(all) > 0 && last.state == s
	}, patience, 5*time.Millisecond, "never told: %v", s)
	return last.reason
}

// write sets a key as somebody who uses the connection does.
func (c *told) write(key string) error {
	results, err := c.Do(context.Background(), c.Node(key), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Set().Key(key).Value("v").Build()}
	})
	if err != nil {
		return err
	}
	return results[0].Error()
}

func (c *told) read(key string) (string, error) {
	results, err := c.Do(context.Background(), c.Node(key), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Get().Key(key).Build()}
	})
	if err != nil {
		return "", err
	}
	return results[0].ToString()
}

func TestARedisThatRefusesWritesIsReadFromAndToldOfOnce(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		for setting, code := range map[string]string{"maxmemory": "OOM", "min-replicas-to-write": "NOREPLICAS"} {
			t.Run(setting, func(t *testing.T) {
				t.Parallel()
				s := k.Start(t)
				c := open(t, s.URL())
				require.NoError(t, c.write("k"))
				require.Equal(t, "OK", s.Do("CONFIG", "SET", setting, "1"))
				require.Error(t, c.write("k"))
				require.Equal(t, redisconn.Refusing, c.Node("k").State(), "known from that write on")
				require.Contains(t, c.come(t, redisconn.Refusing), code)
				v, err := c.read("k")
				require.NoError(t, err)
				require.Equal(t, "v", v)
				require.Equal(t, [3]int{0, 1, 0}, c.States())

				require.Equal(t, "OK", s.Do("CONFIG", "SET", setting, "0"))
				require.Eventually(t, func() bool { return c.Node("k").State() == redisconn.Up }, patience,
					5*time.Millisecond)
				require.NoError(t, c.write("k"))
				require.Equal(t, [3]int{0, 1, 0}, c.States(), "it has to last before it is told")
				c.come(t, redisconn.Up)
				require.Equal(t, [3]int{1, 0, 0}, c.States())
				require.Len(t, c.changes(), 2)
			})
		}
	})
}

// A Redis that is just full takes one write and refuses the next.
func TestARedisThatIsFullNowAndThenIsToldOfOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := openSettling(t, s.URL(), 3*time.Second) // one round may take long on a busy machine
	seen := map[redisconn.State]bool{}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for _, full := range []string{"1", "0"} {
			require.Equal(t, "OK", s.Do("CONFIG", "SET", "maxmemory", full))
			_ = c.write("k")
			time.Sleep(2 * probe)
			seen[c.Node("k").State()] = true
		}
	}
	require.True(t, seen[redisconn.Up] && seen[redisconn.Refusing], "it is used whenever it can be")
	require.Len(t, c.changes(), 1)
	c.come(t, redisconn.Up)
	require.Len(t, c.changes(), 2)
}

func TestARedisThatHangsOrDiesIsAwayAndNobodyWaitsForIt(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, s.URL())
	require.NoError(t, c.write("k"))
	for name, down := range map[string][2]func(){
		"hangs": {s.Hang, s.Wake},
		"dies":  {s.Kill, func() { s.Restart(t) }},
	} {
		down[0]()
		require.Error(t, c.write("k"), name)
		began := time.Now()
		for range 100 {
			require.ErrorIs(t, c.write("k"), redisconn.ErrAway)
		}
		require.Less(t, time.Since(began), redisconn.CallTimeout/2, name)
		require.NotEmpty(t, c.come(t, redisconn.Away), name)
		down[1]()
		c.come(t, redisconn.Up)
		require.NoError(t, c.write("k"), name)
	}
	require.Len(t, c.changes(), 4)
}

// Behind one address, as services have it, another server becomes the primary. The old one keeps its connections and
// refuses what is written over them, for ever.
func TestAPrimaryThatHasBecomeAReplicaBehindOneAddressIsLeftForTheNewOne(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		old, next := k.Start(t), redistest.Start(t)
		way := redistest.Through(t, old.Addr)
		c := open(t, "redis://"+way.Addr)
		require.NoError(t, c.write("before"))
		host, port, _ := strings.Cut(next.Addr, ":")
		require.Equal(t, "OK", old.Do("REPLICAOF", host, port))
		way.Lead(next.Addr)
		require.Error(t, c.write("k"))
		require.Eventually(t, func() bool { return c.write("k") == nil }, patience, probe)
		require.Equal(t, "v", next.Do("GET", "k"))
		require.Eventually(t, func() bool { return len(c.changes()) > 0 }, patience, probe)
		require.Equal(t, redisconn.Refusing, c.changes()[0].state)
		require.Contains(t, c.changes()[0].reason, "READONLY")
	})
}

// In a Cluster each node has its own state.
func TestOneNodesStateIsNoOthers(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, time.Minute)
	c := open(t, cluster.URL())
	require.Eventually(t, func() bool { return len(c.Nodes()) == 3 }, patience, 5*time.Millisecond)
	on := map[string]string{} // a key on each
	for i := 0; len(on) < 3; i++ {
		key := strings.Repeat("k", i)
		on[c.Node(key).Name()] = key
	}
	first := cluster.Masters[0]
	require.Eventually(t, func() bool { return c.write(on[first.Addr]) == nil }, patience, probe)
	require.Equal(t, "OK", first.Do("CONFIG", "SET", "maxmemory", "1"))
	require.Error(t, c.write(on[first.Addr]))
	for addr, key := range on {
		if addr != first.Addr { // it can be away for a moment, for its own reason, on a machine that has no time
			require.NotEqual(t, redisconn.Refusing, c.Node(key).State(), addr)
			require.Eventually(t, func() bool { return c.write(key) == nil }, patience, probe, addr)
		}
	}
	states := func(up, refusing int) {
		require.Eventually(t, func() bool { return c.States() == [3]int{up, refusing, 0} }, patience,
			5*time.Millisecond)
	}
	states(2, 1)
	for _, told := range c.changes() {
		refusing := told.state == redisconn.Refusing
		require.Equal(t, refusing, strings.Contains(told.reason, "OOM"), told)
		require.True(t, !refusing || told.node == first.Addr, "which one is told: %v", told)
	}
	require.Equal(t, "OK", first.Do("CONFIG", "SET", "maxmemory", "0"))
	states(3, 0)
}

// A write is what finds out: a server that is never asked for one is probed all the same.
func TestARedisThatIsNotUsedIsProbedByAWrite(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, s.URL())
	require.Equal(t, "OK", s.Do("CONFIG", "SET", "maxmemory", "1"))
	require.Contains(t, c.come(t, redisconn.Refusing), "OOM")
}

// What concerns only who asked is no state of the node.
func TestAnErrorReplyAboutAKeyIsNotAboutTheNode(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, s.URL())
	require.Equal(t, "1", s.Do("SADD", "k", "x"))
	_, err := c.read("k")
	require.True(t, redisconn.Concerns(err), "%v", err)
	require.Equal(t, redisconn.Up, c.Node("k").State())
	require.Empty(t, c.changes())
}

// Nobody saw it away, and all that it had is gone: who does not find something asks again for a while.
func TestARedisThatWasEmptiedIsToldFromOneThatNeverHadAnything(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	first, second := open(t, s.URL()), open(t, s.URL())
	emptied := func(c *told) bool { return c.Emptied(context.Background(), c.Node("k")) }
	for _, c := range []*told{first, second} {
		require.False(t, emptied(c), "new")
	}
	require.Equal(t, "OK", s.Do("FLUSHALL"))
	for _, c := range []*told{first, second} {
		require.True(t, emptied(c))
	}
	eventually := func(is bool) {
		require.Eventually(t, func() bool { return emptied(first) == is && emptied(second) == is }, patience,
			20*time.Millisecond)
	}
	require.Eventually(t, func() bool { return s.Do("DBSIZE") == "2" }, patience, 20*time.Millisecond,
		"one of them has probed")
	eventually(true)
	eventually(false)
	third := open(t, s.URL())
	require.False(t, emptied(third))
	require.Empty(t, first.changes(), "it was never away")
}
