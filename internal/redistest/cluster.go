package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// Cluster is three masters, which share the slots, and a replica of each.
type Cluster struct{ Masters, Replicas [3]*Server }

// StartCluster runs one until the test ends. A master that is away for longer than timeout is replaced.
func StartCluster(t testing.TB, timeout time.Duration) *Cluster {
	t.Helper()
	c := &Cluster{}
	var ids [3]string
	bus := map[*Server]string{} // the ports at which the servers speak to each other
	for i := range 3 {
		for _, s := range []**Server{&c.Masters[i], &c.Replicas[i]} {
			port := freePort(t)
			*s = Start(t, "--cluster-enabled", "yes", "--cluster-port", port,
				"--cluster-node-timeout", strconv.Itoa(int(timeout.Milliseconds())), "--cluster-require-full-coverage",
				"no")
			bus[*s] = port
		}
		first, last := 16384*i/3, 16384*(i+1)/3-1
		require.Equal(t, "OK", c.Masters[i].Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)))
		ids[i] = c.Masters[i].Do("CLUSTER", "MYID")
	}
	for _, s := range append(c.Masters[1:], c.Replicas[:]...) {
		host, port, _ := net.SplitHostPort(s.Addr)
		require.Equal(t, "OK", c.Masters[0].Do("CLUSTER", "MEET", host, port, bus[s]))
	}
	for i, s := range c.Replicas {
		eventually(t, "a replica", func() bool { return s.Do("CLUSTER", "REPLICATE", ids[i]) == "OK" })
	}
	for _, s := range append(c.Masters[:], c.Replicas[:]...) {
		eventually(t, "a node that knows all", s.knowsAll)
	}
	for _, s := range c.Masters {
		eventually(t, "a replica in step", func() bool {
			return strings.Contains(s.Do("INFO", "replication"), "state=online") // before that, it can't take over
		})
	}
	return c
}

// knowsAll says whether a node of a Cluster knows what every other one is. Until then its layout lacks nodes that the
// others' have, and a client that asks now one and now another sees nodes leave and come back.
func (s *Server) knowsAll() bool {
	info, nodes := s.Do("CLUSTER", "INFO"), s.Do("CLUSTER", "NODES")
	return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384") &&
		strings.Count(nodes, "master") == 3 && strings.Count(nodes, "slave") == 3 &&
		!strings.Contains(nodes, "handshake")
}

// URL is the Cluster's, for the relay.
func (c *Cluster) URL() string {
	return c.Masters[0].URL() + "?addr=" + c.Masters[1].Addr + "&addr=" + c.Masters[2].Addr
}

// Watched is a master and a replica that three Sentinels watch.
type Watched struct {
	Master, Replica *Server
	sentinels       [3]*Server
}

// StartWatched runs them until the test ends. A master that is away for longer than timeout is replaced.
func StartWatched(t testing.TB, timeout time.Duration) *Watched {
	t.Helper()
	w := &Watched{Master: Start(t), Replica: Start(t)}
	host, port, _ := net.SplitHostPort(w.Master.Addr)
	require.Equal(t, "OK", w.Replica.Do("REPLICAOF", host, port))
	eventually(t, "the replica", func() bool {
		return strings.Contains(w.Replica.Do("INFO", "replication"), "master_link_status:up")
	})
	for i := range w.sentinels {
		conf := filepath.Join(t.TempDir(), "sentinel.conf") // it writes to it
		text := fmt.Sprintf("sentinel monitor main %s %s 2\nsentinel down-after-milliseconds main %d\n"+
			"sentinel failover-timeout main 10000\n", host, port, timeout.Milliseconds())
		require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
		w.sentinels[i] = StartSentinel(t, conf)
	}
	for _, s := range w.sentinels {
		eventually(t, "Sentinels that know each other", func() bool {
			info := s.Do("INFO", "sentinel")
			return strings.Contains(info, "slaves=1") && strings.Contains(info, "sentinels=3")
		})
	}
	return w
}

// URL is that of the Sentinels, for the relay.
func (w *Watched) URL() string {
	return w.sentinels[0].URL() + "?master_set=main&addr=" + w.sentinels[1].Addr + "&addr=" + w.sentinels[2].Addr
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 30*time.Second, 50*time.Millisecond, what)
}

func freePort(t testing.TB) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(relaytest.FreeAddr(t))
	return port
}
