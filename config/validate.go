package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validate reports values that can be read but not used, and gives those with several spellings one. It knows the
// fields by their paths; how people call them is their source's to say.
func (c *Config) validate(r *report) {
	r.checkAddr("addr", c.Addr)
	if c.AdminAddr != "" {
		r.checkAddr("admin_addr", c.AdminAddr)
	}
	if c.AdminAddr == c.Addr && !strings.HasSuffix(c.Addr, ":0") {
		r.problem("admin_addr", "%q is %s, too; metrics and pprof need an address of their own", c.AdminAddr,
			path("addr"))
	}
	c.PProf = r.oneOf("pprof", c.PProf, "auto", "true", "false")
	r.checkTLS(c.TLSCert, c.TLSKey)
	for i, origin := range c.CORSOrigins {
		c.CORSOrigins[i] = r.origin("cors_origins", origin)
	}

	for i, name := range c.Hosts {
		c.Hosts[i] = r.host("hosts", name)
	}

	c.checkTokens(r)

	if c.MaxBody == 0 {
		r.problem("max_body", "must be more than 0")
	}
	if c.V1MaxBody == 0 {
		r.problem("v1_max_body", "must be more than 0")
	}
	largest, setting := c.MaxBody, path("max_body")
	if c.V1MaxBody > largest {
		largest, setting = c.V1MaxBody, path("v1_max_body")
	}
	if c.BodyBytes > 0 && c.BodyBytes < 4*largest {
		r.problem("body_bytes", "must be 0 or at least %v: one caller gets half, and a body of %s takes twice its "+
			"size", 4*largest, setting)
	}
	r.checkPositive("body_timeout", c.BodyTimeout)
	if c.MaxStreams < 0 {
		r.problem("max_streams", "must not be negative")
	}
	c.checkLimits(r)
	r.checkNotNegative("max_duration", c.MaxDuration)
	r.checkNotNegative("shutdown_delay", c.ShutdownDelay)
	r.checkNotNegative("shutdown_grace", c.ShutdownGrace)
	r.checkPositive("write_timeout", c.WriteTimeout)
	r.checkPositive("start_budget", c.StartBudget)
	c.checkHedge(r)
	c.checkNames(r)
	c.checkModels(r)
	for i, u := range c.Upstreams {
		if u.MaxStreams > 0 && u.Queue > 0 && u.QueueTimeout >= c.StartBudget {
			r.warn("%s is not below %s, which ends the wait for a place after %v",
				upstreamAt(i).field("queue_timeout"), path("start_budget"), c.StartBudget)
		}
	}
	if c.Heartbeat != 0 && c.Heartbeat < time.Second {
		r.problem("heartbeat", "must be 0 or at least 1s, not %v", c.Heartbeat)
	}

	c.checkResume(r)
	c.TraceInbound = r.oneOf("trace_inbound", c.TraceInbound, "auto", "parent", "link", "ignore")
	if c.TraceInbound == "auto" && c.Open() {
		c.TraceInbound = "link"
	} else if c.TraceInbound == "auto" {
		c.TraceInbound = "parent"
	}
	c.LogLevel = r.oneOf("log_level", c.LogLevel, "trace", "debug", "info", "warn", "error")
	c.LogFormat = r.oneOf("log_format", c.LogFormat, "auto", "json", "console")
}

// checkNames reports names of upstreams that can't tell them apart.
func (c *Config) checkNames(r *report) {
	const longest = 64 // bytes
	for i, u := range c.Upstreams {
		at := upstreamAt(i).field("name")
		if len(u.Name) > longest || !isToken(u.Name) {
			r.problem(at, "must be at most %d printable ASCII characters without spaces", longest)
		}
		if first := c.upstreamNamed(u.Name); first < i {
			r.problem(at, "%q is the name of %s, too", u.Name, upstreamAt(first))
		}
	}
}

// redisGrace is the least ResumeGrace with Redis, where replicas hear of each other's readers
// only now and then.
const redisGrace = 5 * time.Second

func (c *Config) checkResume(r *report) {
	c.Store = r.oneOf("store", c.Store, "memory", "redis", "off")
	c.checkRedis(r)
	r.checkNotNegative("resume_grace", c.ResumeGrace)
	if c.Store == "redis" && c.ResumeGrace >= 0 && c.ResumeGrace < redisGrace {
		r.problem("resume_grace", "must be at least %v with %s=redis, not %v", redisGrace, path("store"),
			c.ResumeGrace)
	}
	if c.ResumeRetention < time.Second {
		r.problem("resume_retention", "must be at least 1s, not %v", c.ResumeRetention)
	}
}

// validate reports what of an upstream can't be used, which is at a path; the first one answers requests that name no
// model.
func (u *Upstream) validate(at path, first bool, r *report) {
	u.validateAuth(at, r)
	r.checkPositive(at.field("connect_timeout"), u.ConnectTimeout)
	r.checkPositive(at.field("first_chunk_timeout"), u.FirstChunkTimeout)
	r.checkPositive(at.field("idle_timeout"), u.IdleTimeout)
	r.checkPositive(at.field("thinking_timeout"), u.ThinkingTimeout)
	if u.Retries < 0 || u.Retries > 10 {
		r.problem(at.field("retries"), "must be 0 to 10, not %d", u.Retries)
	}
	if u.MaxStreams < 0 {
		r.problem(at.field("max_streams"), "must not be negative")
	}
	if u.Queue < 0 {
		r.problem(at.field("queue"), "must not be negative")
	}
	if u.MaxStreams == 0 && r.given(at.field("queue")) {
		r.warn("%s has no effect: %s is not set, so nobody waits", at.field("queue"), at.field("max_streams"))
	}
	r.checkNotNegative(at.field("queue_timeout"), u.QueueTimeout)
	if u.CAFile != "" {
		r.checkCA(at.field("ca_file"), u.CAFile)
	}
	for _, entry := range u.Family {
		if from, to, pair := strings.Cut(entry, "="); from == "" || pair && to == "" {
			r.problem(at.field("family"), "%q is neither a family nor name=family", entry)
		}
	}
	for _, entry := range u.RenameFields {
		if from, to, _ := strings.Cut(entry, "="); from == "" || to == "" || strings.Contains(to, ".") {
			r.problem(at.field("rename_fields"), "%q is not name=other, where other has no dot", entry)
		}
	}
	if u.AddFields != "" && json.Unmarshal([]byte(u.AddFields), &map[string]any{}) != nil {
		r.problem(at.field("add_fields"), "is not a JSON object")
	}
	for _, entry := range u.Models {
		if from, to, pair := strings.Cut(entry, "="); from == "" || pair && to == "" || strings.Contains(to, "*") {
			r.problem(at.field("models"), "%q is neither a name nor name=other, where other has no *", entry)
		}
	}
	if first && u.Model != "" && !u.Allows(u.Model) {
		r.problem(at.field("model"), "%q is not among %s", u.Model, at.field("models"))
	}
}

func (c *Config) checkHedge(r *report) {
	r.checkNotNegative("hedge_after", c.HedgeAfter)
	if c.HedgeAfter > 0 && len(c.Upstreams) == 1 {
		r.warn("%s has no effect: there is no second upstream to ask", path("hedge_after"))
	}
}

func (r *report) checkCA(at path, file string) {
	pem, err := os.ReadFile(file)
	switch {
	case err != nil:
		r.problem(at, "%v", unnamed(err))
	case !x509.NewCertPool().AppendCertsFromPEM(pem):
		r.problem(at, "the file has no PEM certificate")
	}
}

func (r *report) checkNotNegative(at path, d time.Duration) {
	if d < 0 {
		r.problem(at, "must not be negative")
	}
}

func (r *report) checkPositive(at path, d time.Duration) {
	if d <= 0 {
		r.problem(at, "must be more than 0")
	}
}

func (r *report) oneOf(at path, value string, allowed ...string) string {
	value = strings.ToLower(value)
	if !slices.Contains(allowed, value) {
		r.problem(at, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
	return value
}

func (r *report) checkAddr(at path, addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !isPort(port) || strings.ContainsAny(host, " /@") {
		r.problem(at, "%q is not an address; use host:port or :port, e.g. :8080", addr)
	}
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (r *report) checkTLS(certFile, keyFile string) {
	switch {
	case certFile == "" && keyFile == "":
		return
	case certFile == "":
		r.problem("tls_cert", "not set, but %s is; TLS needs both", path("tls_key"))
		return
	case keyFile == "":
		r.problem("tls_key", "not set, but %s is; TLS needs both", path("tls_cert"))
		return
	}
	cert, certErr := os.ReadFile(certFile)
	if certErr != nil {
		r.problem("tls_cert", "%v", unnamed(certErr))
	}
	key, keyErr := os.ReadFile(keyFile)
	if keyErr != nil {
		r.problem("tls_key", "%v", unnamed(keyErr))
	}
	if certErr != nil || keyErr != nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		r.problem("tls_cert", "with %s: %v", path("tls_key"), err)
	}
}

// origin returns an allowed origin as a browser sends it.
func (r *report) origin(at path, origin string) string {
	canonical, err := canonicalOrigin(origin)
	if err != nil {
		r.problem(at, "%v", err)
		return origin
	}
	return canonical
}

// host returns a name as browsers send it, in lower case.
func (r *report) host(at path, host string) string {
	labels := strings.TrimPrefix(host, "*.")
	if host != "*" && strings.ContainsFunc(labels,
		func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("*/:@[]", r) }) {
		r.problem(at, "%q is not a host name; use chat.example.com, *.example.com or *, without scheme and port", host)
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// baseURL returns the URL less its trailing slashes. Its problems don't quote it, because the parts
// that are refused are those that people put passwords into.
func (r *report) baseURL(at path, raw string) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || !hasHost(u):
		r.problem(at, "not an absolute http or https URL; use e.g. https://llm.example.com/v1")
	case u.User != nil || strings.ContainsAny(raw, "?#"):
		r.problem(at, "must not have a user, query or fragment")
	}
	return strings.TrimRight(raw, "/")
}

func hasHost(u *url.URL) bool {
	return u.Hostname() != "" && (isPort(u.Port()) || u.Port() == "" && !strings.HasSuffix(u.Host, ":"))
}

// isToken tells whether a key can stand in a header as it is: printable ASCII without spaces.
func isToken(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
