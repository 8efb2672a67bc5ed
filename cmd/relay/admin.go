package main

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/handler"
)

// newAdmin makes the server for operators, at addr: metrics and, where they are wanted, profiles.
func newAdmin(cfg *config.Config, registry *prometheus.Registry, addr net.Addr) *http.Server {
	loopback := isLoopback(addr)
	var routes http.Handler = adminRoutes(registry, withProfiles(cfg, loopback))
	if loopback {
		routes = localOnly(cfg.Hosts, routes)
	}
	return &http.Server{
		Handler: routes, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
	}
}

// withProfiles tells whether there is pprof. Whoever reaches it can read what the relay has in memory, and keep it
// busy; so it is for this machine alone, unless it is asked for.
func withProfiles(cfg *config.Config, loopback bool) bool {
	return cfg.PProf == "true" || cfg.PProf == "auto" && loopback
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func adminRoutes(registry *prometheus.Registry, profiles bool) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// localOnly refuses what a page in this machine's browser asks that is not of this server. On another address
// whoever can connect is let in, by any name: that is the network's to decide.
func localOnly(hosts handler.Hosts, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		site := req.Header.Get("Sec-Fetch-Site")
		foreign := site == "cross-site" || site == "same-site" ||
			isOfAnother(req, "Origin") || isOfAnother(req, "Referer") // which older browsers send
		switch {
		case !hosts.Has(req.Host):
			http.Error(w, "this server does not answer to this host (see RELAY_HOSTS)", http.StatusForbidden)
		case foreign:
			http.Error(w, "pages of other origins are not served", http.StatusForbidden)
		default:
			next.ServeHTTP(w, req)
		}
	})
}

// isOfAnother tells whether a header names a page, and it is not this server's.
func isOfAnother(req *http.Request, name string) bool {
	page := req.Header.Get(name)
	if page == "" {
		return false
	}
	u, err := url.Parse(page)
	return err != nil || !strings.EqualFold(u.Host, req.Host)
}
