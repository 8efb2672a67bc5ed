// Package redistest runs Redis servers of a test's own on free ports of the loopback interface.
package redistest

import (
	"cmp"
	"context"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// Kind is a server that the store has to work with, as this machine has it: the command that its variable
// names, or else Command on the PATH.
type Kind struct{ Name, Variable, Command string }

// Kinds are all of them. The first is what Start runs.
var Kinds = []Kind{
	{"Redis", "RELAY_TEST_REDIS", "redis-server"},
	{"Redis 6.2", "RELAY_TEST_REDIS_62", "redis-server-6.2"},
	{"Valkey", "RELAY_TEST_VALKEY", "valkey-server"},
}

// Each runs a test with each of Kinds. It is skipped for those that this machine does not have, and fails for
// them in CI.
func Each(t *testing.T, test func(t *testing.T, k Kind)) {
	for _, k := range Kinds {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			k.path(t)
			test(t, k)
		})
	}
}

// Start runs a server of this kind until the test ends.
func (k Kind) Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return k.start(t, append([]string{"--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}, args...))
}

func (k Kind) path(t testing.TB) string {
	t.Helper()
	name := cmp.Or(os.Getenv(k.Variable), k.Command)
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			require.NoError(t, err)
		}
		t.Skipf("no %s here: install it or set %s to test the log in %s", name, k.Variable, k.Name)
	}
	return path
}

// Server is a server of some Kind. It keeps nothing on disk.
type Server struct {
	*relaytest.Program
	Addr string
}

// Start runs a server of the first kind until the test ends. The test is skipped when there is none on this
// machine, and fails for it in CI.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return Kinds[0].Start(t, args...)
}

// StartSentinel runs a Sentinel with its configuration file, which it writes to.
func StartSentinel(t testing.TB, conf string) *Server {
	t.Helper()
	return Kinds[0].start(t, []string{conf, "--sentinel"})
}

func (k Kind) start(t testing.TB, args []string) *Server {
	t.Helper()
	path, addr := k.path(t), relaytest.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	common := []string{"--bind", "127.0.0.1", "--port", port, "--dir", t.TempDir(), "--loglevel", "warning"}
	s := &Server{Addr: addr, Program: relaytest.Start(t, exec.Command(path, append(args, common...)...))}
	s.answers(t)
	return s
}

// URL is the server's, for the relay.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Restart runs the server again after Kill, empty, and waits until it answers.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Program.Restart(t)
	s.answers(t)
}

func (s *Server) answers(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return s.Do("PING") == "PONG" }, relaytest.Patience, 10*time.Millisecond,
		"redis-server starts")
}

// Do runs one command and gives its answer as text, or the error's.
func (s *Server) Do(command ...string) string {
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{s.Addr}, DisableCache: true, ForceSingleClient: true,
	})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	m, err := c.Do(context.Background(), c.B().Arbitrary(command...).Build()).ToMessage()
	if err != nil {
		return err.Error()
	}
	if text, err := m.ToString(); err == nil {
		return text
	}
	if n, err := m.AsInt64(); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return strings.TrimSpace(m.String())
}
