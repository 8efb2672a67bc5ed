// Package relaytest runs processes in tests: the relay's binary, and the programs that it works with.
package relaytest

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience is for what must come, on a machine that is busy with other things.
const Patience = time.Minute

// Program is a process that runs until the test ends, and can be run again before that. Its output is kept, and told
// when the test fails.
type Program struct {
	command exec.Cmd // what each run is a copy of
	cmd     *exec.Cmd
	output  io.Closer     // the end of the pipe that is read here
	exited  chan struct{} // closed when the process has, and its output is here

	mu    sync.Mutex    // guards the rest
	lines []string      // of all runs
	first int           // where the lines of the present run begin
	more  chan struct{} // closed when a line comes
}

// Start runs a command, of which the path, arguments, environment and process group count. A command with a process
// group of its own is killed with all that it started.
func Start(t testing.TB, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{
		command: exec.Cmd{Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, SysProcAttr: cmd.SysProcAttr},
		more:    make(chan struct{}),
	}
	p.run(t)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			log := p.Log()
			t.Logf("%s ends with:\n%s", strings.Join(cmd.Args, " "), log[max(0, len(log)-32<<10):])
		}
	})
	return p
}

func (p *Program) run(t testing.TB) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	cmd := &exec.Cmd{Path: p.command.Path, Args: p.command.Args, Env: p.command.Env,
		SysProcAttr: p.command.SysProcAttr}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		r.Close()
		require.NoError(t, err)
	}
	p.cmd, p.output, p.exited = cmd, r, make(chan struct{})
	p.mu.Lock()
	p.first = len(p.lines)
	p.mu.Unlock()
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.follow(r)
	}()
	go func(exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait()
		select {
		case <-read:
		case <-time.After(5 * time.Second): // a process that it left behind keeps the pipe open
		}
		r.Close()
		<-read
	}(p.exited)
}

// follow keeps the lines of a run.
func (p *Program) follow(output io.Reader) {
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			p.mu.Lock()
			p.lines = append(p.lines, strings.TrimSuffix(line, "\n"))
			close(p.more)
			p.more = make(chan struct{})
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// Restart runs the program again after it has exited.
func (p *Program) Restart(t testing.TB) {
	t.Helper()
	p.exit(t)
	p.run(t)
}

// Pid is the process's number.
func (p *Program) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Program) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// Hang stops the process as a debugger does: its connections are kept, and nothing is answered. Wake undoes it.
func (p *Program) Hang() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Wake undoes Hang.
func (p *Program) Wake() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// Kill is kill -9, also of a process that has exited.
func (p *Program) Kill() {
	if attr := p.command.SysProcAttr; attr != nil && attr.Setpgid {
		_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
	} else {
		_ = p.cmd.Process.Kill()
	}
	<-p.exited
}

// Exit waits for the end of the process, and gives its exit code.
func (p *Program) Exit(t testing.TB) int {
	t.Helper()
	p.exit(t)
	return p.cmd.ProcessState.ExitCode()
}

func (p *Program) exit(t testing.TB) {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(Patience):
		require.FailNow(t, "the process does not exit", "%v", p.command.Args)
	}
}

// Log is the output of all runs until now.
func (p *Program) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// present gives the lines of the present run until now, and a channel that is closed when there are more.
func (p *Program) present() (lines []string, more <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[p.first:], p.more
}

// CloseOutput closes the pipe that the process writes to, as when the program that collects a log has died.
func (p *Program) CloseOutput() { p.output.Close() }

// Look gives the path of a program. Where there is none the test is skipped, and in CI it fails.
func Look(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		require.NotEqual(t, "true", os.Getenv("CI"), "%v", err)
		t.Skipf("no %s here: install it for this test", name)
	}
	return path
}

// FreeAddr is an address on the loopback interface at which nobody listens. It is the test's until its end, also while
// the program there is restarted. Its port is below those that systems give to who asks for any: one of
// these would be taken by the next connection of another test.
func FreeAddr(t testing.TB) string {
	t.Helper()
	const first, last, tries = 10_000, 32_767, 1000
	for range tries {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first+1)))
		mine, err := net.ListenPacket("udp", addr) // nobody speaks UDP here: it tells other processes' tests
		if err != nil {
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			require.NoError(t, mine.Close())
			continue
		}
		require.NoError(t, ln.Close())
		t.Cleanup(func() { require.NoError(t, mine.Close()) })
		return addr
	}
	require.FailNow(t, "no free port")
	return ""
}
