package relaytest_test

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

func TestMain(m *testing.M) { os.Exit(relaytest.Main(m.Run)) }

func says(t *testing.T, p *relaytest.Program, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return p.Log() == what }, relaytest.Patience, time.Millisecond, what)
}

func TestAProgramRunsAgain(t *testing.T) {
	p := relaytest.Start(t, exec.Command("sh", "-c",
		"trap 'echo asked to end; exit 3' TERM; echo runs; while :; do sleep 0.01; done"))
	says(t, p, "runs")
	p.Kill()
	require.Equal(t, -1, p.Exit(t), "it was killed")
	p.Restart(t)
	says(t, p, "runs\nruns")
	p.Signal(t, syscall.SIGTERM)
	require.Equal(t, 3, p.Exit(t))
	require.Equal(t, "runs\nruns\nasked to end", p.Log(), "all of it is here when the process has ended")
	p.Kill() // of nobody
}

func TestAProcessGroupIsKilledAsAWhole(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := relaytest.Start(t, cmd)
	require.Eventually(t, func() bool { return p.Log() != "" }, relaytest.Patience, time.Millisecond)
	child, err := strconv.Atoi(strings.TrimSpace(p.Log()))
	require.NoError(t, err)
	p.Kill()
	require.Eventually(t, func() bool { // a dead process whose parent has not asked for its end is state Z
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(child) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, relaytest.Patience, time.Millisecond, "the child is dead")
}

func TestARelayComesBackOnItsAddresses(t *testing.T) {
	r := relaytest.Serve(t)
	url, admin := r.URL, r.Admin
	require.Equal(t, 200, r.Status(t, "/healthz"))
	r.Stop(t)
	r.Restart(t)
	require.Equal(t, 200, r.Status(t, "/healthz"))
	require.Len(t, r.Lines("listening"), 1, "of this run")
	require.Equal(t, 2, strings.Count(r.Log(), `"listening"`))
	require.Equal(t, url, r.Lines("listening")[0]["scheme"].(string)+"://"+r.Lines("listening")[0]["addr"].(string))
	require.Equal(t, admin, r.Lines("metrics and pprof")[0]["addr"])
	require.NotZero(t, r.Gauge(t, "go_goroutines"))
}

// A port of those that the system gives to who asks for any went to the next connection of another test, before the
// program that was to listen there came to it.
func TestAFreeAddressIsNobodyElses(t *testing.T) {
	given := make(map[string]bool)
	for range 500 {
		addr := relaytest.FreeAddr(t)
		require.False(t, given[addr], "given twice")
		given[addr] = true
	}
	for range 500 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		require.False(t, given[ln.Addr().String()], "given to who asks for any")
	}
	for addr := range given {
		ln, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		ln.Close()
	}
}
