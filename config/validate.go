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

// check reports values that can be read but not used, and gives those with several spellings one.
func (l *loader) check(c *Config) {
	l.checkAddr("RELAY_ADDR", c.Addr)
	if c.AdminAddr != "" {
		l.checkAddr("RELAY_ADMIN_ADDR", c.AdminAddr)
	}
	if c.AdminAddr == c.Addr && !strings.HasSuffix(c.Addr, ":0") {
		l.problem("RELAY_ADMIN_ADDR", "%q is RELAY_ADDR, too; metrics and pprof need an address of their own", c.AdminAddr)
	}
	c.PProf = l.oneOf("RELAY_PPROF", c.PProf, "auto", "true", "false")
	l.checkTLS(c.TLSCert, c.TLSKey)
	for i, origin := range c.CORSOrigins {
		c.CORSOrigins[i] = l.origin("RELAY_CORS_ORIGINS", origin)
	}

	for i, name := range c.Hosts {
		c.Hosts[i] = l.host("RELAY_HOSTS", name)
	}

	l.checkTokens(c)

	if c.MaxBody == 0 {
		l.problem("RELAY_MAX_BODY", "must be more than 0")
	}
	if c.BodyBytes > 0 && c.BodyBytes < 4*c.MaxBody {
		l.problem("RELAY_BODY_BYTES", "must be 0 or at least %v: one caller gets half, and a body of RELAY_MAX_BODY takes twice its size", 4*c.MaxBody)
	}
	l.checkPositive("RELAY_BODY_TIMEOUT", c.BodyTimeout)
	if c.MaxStreams < 0 {
		l.problem("RELAY_MAX_STREAMS", "must not be negative")
	}
	if c.LimitStreams < 0 {
		l.problem("RELAY_LIMIT_STREAMS", "must not be negative")
	}
	l.checkNotNegative("RELAY_MAX_DURATION", c.MaxDuration)
	l.checkNotNegative("RELAY_SHUTDOWN_DELAY", c.ShutdownDelay)
	l.checkNotNegative("RELAY_SHUTDOWN_GRACE", c.ShutdownGrace)
	l.checkPositive("RELAY_WRITE_TIMEOUT", c.WriteTimeout)
	l.checkPositive("RELAY_START_BUDGET", c.StartBudget)
	l.checkHedge(c)
	for _, u := range c.Upstreams {
		if u.MaxStreams > 0 && u.Queue > 0 && u.QueueTimeout >= c.StartBudget {
			l.warn("%sQUEUE_TIMEOUT is not below RELAY_START_BUDGET, which ends the wait for a place after %v", u.prefix(), c.StartBudget)
		}
	}
	if c.Heartbeat != 0 && c.Heartbeat < time.Second {
		l.problem("RELAY_HEARTBEAT", "must be 0 or at least 1s, not %v", c.Heartbeat)
	}

	l.checkResume(c)
	c.LogLevel = l.oneOf("RELAY_LOG_LEVEL", c.LogLevel, "trace", "debug", "info", "warn", "error")
	c.LogFormat = l.oneOf("RELAY_LOG_FORMAT", c.LogFormat, "auto", "json", "console")
}

// redisGrace is the least RELAY_RESUME_GRACE with Redis, where replicas hear of each other's readers
// only now and then.
const redisGrace = 5 * time.Second

func (l *loader) checkResume(c *Config) {
	c.Store = l.oneOf("RELAY_STORE", c.Store, "memory", "redis", "off")
	l.checkRedis(c)
	l.checkNotNegative("RELAY_RESUME_GRACE", c.ResumeGrace)
	if c.Store == "redis" && c.ResumeGrace >= 0 && c.ResumeGrace < redisGrace {
		l.problem("RELAY_RESUME_GRACE", "must be at least %v with RELAY_STORE=redis, not %v", redisGrace, c.ResumeGrace)
	}
	if c.ResumeRetention < time.Second {
		l.problem("RELAY_RESUME_RETENTION", "must be at least 1s, not %v", c.ResumeRetention)
	}
}

func (l *loader) checkUpstream(prefix string, u Upstream) {
	l.checkPositive(prefix+"CONNECT_TIMEOUT", u.ConnectTimeout)
	l.checkPositive(prefix+"FIRST_CHUNK_TIMEOUT", u.FirstChunkTimeout)
	l.checkPositive(prefix+"IDLE_TIMEOUT", u.IdleTimeout)
	l.checkPositive(prefix+"THINKING_TIMEOUT", u.ThinkingTimeout)
	if u.Retries < 0 || u.Retries > 10 {
		l.problem(prefix+"RETRIES", "must be 0 to 10, not %d", u.Retries)
	}
	if u.MaxStreams < 0 {
		l.problem(prefix+"MAX_STREAMS", "must not be negative")
	}
	if u.Queue < 0 {
		l.problem(prefix+"QUEUE", "must not be negative")
	}
	if u.MaxStreams == 0 && l.env[prefix+"QUEUE"] != "" {
		l.warn("%sQUEUE has no effect: %sMAX_STREAMS is not set, so nobody waits", prefix, prefix)
	}
	l.checkNotNegative(prefix+"QUEUE_TIMEOUT", u.QueueTimeout)
	if u.CAFile != "" {
		l.checkCA(prefix+"CA_FILE", u.CAFile)
	}
	for _, entry := range u.Family {
		if from, to, pair := strings.Cut(entry, "="); from == "" || pair && to == "" {
			l.problem(prefix+"FAMILY", "%q is neither a family nor name=family", entry)
		}
	}
	for _, entry := range u.RenameFields {
		if from, to, _ := strings.Cut(entry, "="); from == "" || to == "" || strings.Contains(to, ".") {
			l.problem(prefix+"RENAME_FIELDS", "%q is not name=other, where other has no dot", entry)
		}
	}
	if u.AddFields != "" && json.Unmarshal([]byte(u.AddFields), &map[string]any{}) != nil {
		l.problem(prefix+"ADD_FIELDS", "is not a JSON object")
	}
	for _, entry := range u.Models {
		if from, to, pair := strings.Cut(entry, "="); from == "" || pair && to == "" || strings.Contains(to, "*") {
			l.problem(prefix+"MODELS", "%q is neither a name nor name=other, where other has no *", entry)
		}
	}
	if u.Number == 0 && u.Model != "" && !u.Allows(u.Model) {
		l.problem(prefix+"MODEL", "%q is not among %sMODELS", u.Model, prefix)
	}
}

func (l *loader) checkHedge(c *Config) {
	l.checkNotNegative("RELAY_HEDGE_AFTER", c.HedgeAfter)
	if c.HedgeAfter > 0 && len(c.Upstreams) == 1 {
		l.warn("RELAY_HEDGE_AFTER has no effect: there is no second upstream to ask")
	}
}

func (l *loader) checkCA(name, file string) {
	pem, err := os.ReadFile(file)
	switch {
	case err != nil:
		l.problem(name, "%v", unnamed(err))
	case !x509.NewCertPool().AppendCertsFromPEM(pem):
		l.problem(name, "the file has no PEM certificate")
	}
}

func (l *loader) checkNotNegative(name string, d time.Duration) {
	if d < 0 {
		l.problem(name, "must not be negative")
	}
}

func (l *loader) checkPositive(name string, d time.Duration) {
	if d <= 0 {
		l.problem(name, "must be more than 0")
	}
}

func (l *loader) oneOf(name, value string, allowed ...string) string {
	value = strings.ToLower(value)
	if !slices.Contains(allowed, value) {
		l.problem(name, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
	return value
}

func (l *loader) checkAddr(name, addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !isPort(port) || strings.ContainsAny(host, " /@") {
		l.problem(name, "%q is not an address; use host:port or :port, e.g. :8080", addr)
	}
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (l *loader) checkTLS(certFile, keyFile string) {
	switch {
	case certFile == "" && keyFile == "":
		return
	case certFile == "":
		l.problem("RELAY_TLS_CERT", "not set, but RELAY_TLS_KEY is; TLS needs both")
		return
	case keyFile == "":
		l.problem("RELAY_TLS_KEY", "not set, but RELAY_TLS_CERT is; TLS needs both")
		return
	}
	cert, certErr := os.ReadFile(certFile)
	if certErr != nil {
		l.problem("RELAY_TLS_CERT", "%v", unnamed(certErr))
	}
	key, keyErr := os.ReadFile(keyFile)
	if keyErr != nil {
		l.problem("RELAY_TLS_KEY", "%v", unnamed(keyErr))
	}
	if certErr != nil || keyErr != nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		l.problem("RELAY_TLS_CERT", "with RELAY_TLS_KEY: %v", err)
	}
}

// origin returns an allowed origin as a browser sends it.
func (l *loader) origin(name, origin string) string {
	canonical, err := canonicalOrigin(origin)
	if err != nil {
		l.problem(name, "%v", err)
		return origin
	}
	return canonical
}

// host returns a name as browsers send it, in lower case.
func (l *loader) host(name, host string) string {
	labels := strings.TrimPrefix(host, "*.")
	if host != "*" && strings.ContainsFunc(labels, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("*/:@[]", r) }) {
		l.problem(name, "%q is not a host name; use chat.example.com, *.example.com or *, without scheme and port", host)
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// baseURL returns the URL less its trailing slashes. Its problems don't quote it, because the parts
// that are refused are those that people put passwords into.
func (l *loader) baseURL(name, raw string) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || !hasHost(u):
		l.problem(name, "not an absolute http or https URL; use e.g. https://llm.example.com/v1")
	case u.User != nil || strings.ContainsAny(raw, "?#"):
		l.problem(name, "must not have a user, query or fragment")
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
