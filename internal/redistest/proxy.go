package redistest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Proxy is somebody's way to a server, which a test can cut, make narrow, or lead elsewhere. A replica whose way to
// Redis is cut is dead to everybody else.
type Proxy struct {
	Addr     string
	listener net.Listener
	running  sync.WaitGroup
	rate     atomic.Int64 // bytes per second towards the server; 0: as they come
	carried  atomic.Int64 // bytes towards the server

	mu     sync.Mutex // guards what follows
	target string
	cut    bool
	conns  map[net.Conn]bool
}

// Through makes a way to addr, for as long as the test runs.
func Through(t testing.TB, addr string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{Addr: ln.Addr().String(), listener: ln, target: addr, conns: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Cut ends all connections and refuses others until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Heal undoes Cut.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Lead has new connections go to another server. Those that there are stay, as behind a service's address.
func (p *Proxy) Lead(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Narrow lets so many bytes through to the server in a second, over each connection.
func (p *Proxy) Narrow(bytes int) { p.rate.Store(int64(bytes)) }

// Carried is how many bytes have gone to the server.
func (p *Proxy) Carried() int { return int(p.carried.Load()) }

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.carry(c) })
	}
}

func (p *Proxy) carry(c net.Conn) {
	defer p.drop(c)
	target, open := p.keep(c)
	if !open {
		return
	}
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer p.drop(up)
	if _, open = p.keep(up); !open {
		return
	}
	p.running.Go(func() {
		_, _ = io.Copy(slowly{p, up}, c)
		_ = up.Close()
	})
	_, _ = io.Copy(c, up)
}

// slowly writes at the rate of its Proxy.
type slowly struct {
	p *Proxy
	w io.Writer
}

func (s slowly) Write(b []byte) (n int, err error) {
	if rate := s.p.rate.Load(); rate > 0 {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(rate))
	}
	n, err = s.w.Write(b)
	s.p.carried.Add(int64(n))
	return n, err
}

// keep has Cut close c. It says where it leads, and whether the way is open.
func (p *Proxy) keep(c net.Conn) (target string, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return p.target, !p.cut
}

func (p *Proxy) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
