// Package config owns the relay's settings: it reads them from the environment and a file, checks them all
// and describes them. It starts nothing and logs nothing.
package config

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Config is every setting of one relay process, checked. The tags are the documentation of the
// fields, and what Usage prints: env names the variable, envDefault its default, unset describes a
// default that depends on other settings, group opens a section of the table.
type Config struct {
	Addr      string `env:"RELAY_ADDR" envDefault:":8080" group:"Server" help:"listen address, host:port"`
	AdminAddr string `env:"RELAY_ADMIN_ADDR" envDefault:"127.0.0.1:9090" help:"metrics and pprof, host:port; set but empty: off"`
	PProf     string `env:"RELAY_PPROF" envDefault:"auto" help:"whether /debug/pprof/ is at the admin address: true, false or auto: only while that is loopback"`
	TLSCert   string `env:"RELAY_TLS_CERT" help:"file of the PEM certificate chain; serves TLS with HTTP/2, needs RELAY_TLS_KEY"`
	TLSKey    string `env:"RELAY_TLS_KEY" help:"file of the certificate's PEM private key"`
	File      string `env:"RELAY_CONFIG" help:"file of settings in YAML (docs/routes.md), which names them in lower case and without RELAY_; what is set here counts more"`
	UI        bool   `env:"RELAY_UI" envDefault:"true" help:"the demo chat page at /"`
	Probe     bool   `env:"RELAY_PROBE" help:"streams without a provider at /api/chat/probe, for relay doctor"`

	// env has no form for a list of structs in one variable, so the option "-" keeps it off this field
	// and the loader fills it.
	APIKeys     []APIKey `env:"RELAY_API_KEYS,-" group:"Access" help:"accepted bearer keys, comma-separated, each name:key or key; empty: open to all"`
	CORSOrigins []string `env:"RELAY_CORS_ORIGINS" help:"allowed browser origins, comma-separated, like https://app.example.com or https://*.example.com, or *"`

	Hosts []string `env:"RELAY_HOSTS" help:"names that a relay without keys answers to, comma-separated, like chat.example.com, *.example.com or * for any. Addresses, localhost, names without a dot and those below .localhost, .local, .internal and .svc need not be named"`

	TrustedProxies []netip.Prefix `env:"RELAY_TRUSTED_PROXIES" help:"proxies whose X-Forwarded-For and X-Forwarded-Host count, comma-separated addresses, networks (10.0.0.0/8) or private for all private networks and loopback"`

	JWTIssuer     string   `env:"RELAY_JWT_ISSUER" group:"Tokens (JWT) beside or instead of API keys" help:"issuer of the tokens that are accepted, as in their iss; its discovery document says where its keys are"`
	JWTKeys       string   `env:"RELAY_JWT_JWKS" help:"URL or file of the issuer's JSON Web Key Set, in place of discovery"`
	JWTAudience   []string `env:"RELAY_JWT_AUDIENCE" help:"audiences, comma-separated, one of which a token's aud must have; required with tokens"`
	JWTAlgorithms []string `env:"RELAY_JWT_ALGORITHMS" envDefault:"RS256,ES256,EdDSA" help:"algorithms that tokens may be signed with, comma-separated; asymmetric ones only"`
	JWTRequire    []string `env:"RELAY_JWT_REQUIRE" help:"claims that a token must have, comma-separated name=value; a list or the words of a text need to have the value among them, a.b is a member of an object; otherwise 403 forbidden"`
	JWTNameClaim  string   `env:"RELAY_JWT_NAME_CLAIM" help:"claim that names the caller in logs; unset: none does"`
	JWTTierClaim  string   `env:"RELAY_JWT_TIER_CLAIM" help:"claim that names the tier of limits that the caller has"`
	JWTCookie     string   `env:"RELAY_JWT_COOKIE" help:"cookie that may have the token, for EventSource, which can't send a header, like __Host-session"`
	JWTCAFile     string   `env:"RELAY_JWT_CA_FILE" help:"file of PEM certificates to trust beside the system's, for an issuer with a private authority"`

	DefaultModel string `env:"RELAY_DEFAULT_MODEL" group:"Routes" help:"model for requests that name none, among the models of RELAY_CONFIG"`
	Sticky       bool   `env:"RELAY_STICKY" envDefault:"false" help:"whether a caller's requests go to the same upstream of those that share a model, while it answers: prompt caches belong to one key at one provider"`

	MaxBody        ByteSize      `env:"RELAY_MAX_BODY" envDefault:"8MiB" group:"Limits" help:"request body"`
	V1MaxBody      ByteSize      `env:"RELAY_V1_MAX_BODY" unset:"8MiB or more" help:"the same below /v1/, but for /v1/ai/, and never less: agents send long conversations, and images"`
	BodyBytes      ByteSize      `env:"RELAY_BODY_BYTES" unset:"128MiB or more" help:"memory for request bodies of this process, until their answers begin, and for answers that are sent again whole: about twice their size; half of it at most for one caller; beyond it 503 overloaded; 0: no cap. At least four times RELAY_MAX_BODY and RELAY_V1_MAX_BODY"`
	MaxStreams     int           `env:"RELAY_MAX_STREAMS" envDefault:"0" help:"answers that this process has generated at a time, and as many connections that it sends them to; shared fairly by callers, beyond it 503 overloaded; 0: no cap"`
	MaxStreamBytes ByteSize      `env:"RELAY_MAX_STREAM_BYTES" envDefault:"64MiB" help:"one answer, as sent to the client; 0: no cap"`
	MaxDuration    time.Duration `env:"RELAY_MAX_DURATION" envDefault:"15m" help:"one stream, start to end; 0: no cap"`

	LimitRequests Rate   `env:"RELAY_LIMIT_REQUESTS" envDefault:"0" group:"Limits of one caller (API key, owner of a token or, without either, client address)" help:"requests, like 60/m (s, m, h or d), or 60/m:10 for at most 10 of them at once; beyond this and the following 429 rate_limited; 0: no limit"`
	LimitTokens   Rate   `env:"RELAY_LIMIT_TOKENS" envDefault:"0" help:"tokens of questions and answers together, like 100000/m; 0: no limit"`
	BudgetTokens  Rate   `env:"RELAY_BUDGET_TOKENS" envDefault:"0" help:"tokens of a day (UTC), like 2000000/d; 0: no limit"`
	LimitStreams  int    `env:"RELAY_LIMIT_STREAMS" envDefault:"0" help:"answers that are being generated at a time; 0: no limit"`
	LimitAttach   Rate   `env:"RELAY_LIMIT_ATTACH" envDefault:"1200/m:600" help:"times that it comes for one and the same answer again, to read or to stop it, in each process; 0: no limit"`
	LimitFallback string `env:"RELAY_LIMIT_FALLBACK" envDefault:"local" help:"with RELAY_REDIS_URL limits hold for all replicas together; while Redis is away: local, the same limits for each process; open, none; closed, 503 overloaded"`

	BodyTimeout   time.Duration `env:"RELAY_BODY_TIMEOUT" envDefault:"30s" group:"Timing" help:"for a request body to arrive; one that comes with 4 KiB a second or more has all the time it needs"`
	Heartbeat     time.Duration `env:"RELAY_HEARTBEAT" envDefault:"15s" help:"silence before a ping, at least 1s; 0: none"`
	WriteTimeout  time.Duration `env:"RELAY_WRITE_TIMEOUT" envDefault:"10s" help:"one write and flush; a client that does not read for so long is dropped"`
	StartBudget   time.Duration `env:"RELAY_START_BUDGET" envDefault:"90s" help:"all attempts of one request together, up to the first chunk: retries, waits and fallbacks"`
	HedgeAfter    time.Duration `env:"RELAY_HEDGE_AFTER" envDefault:"0" help:"when the first chunk is so late, the next upstream is asked as well and the faster one answers; 0: never"`
	ShutdownDelay time.Duration `env:"RELAY_SHUTDOWN_DELAY" envDefault:"0s" help:"on SIGTERM, time between not ready and closing the listener"`
	ShutdownGrace time.Duration `env:"RELAY_SHUTDOWN_GRACE" envDefault:"25s" help:"time that running streams then get to finish"`

	Store            string        `env:"RELAY_STORE" envDefault:"memory" group:"Resumable streams" help:"where they are kept: memory, of this process alone; redis, for many replicas; off"`
	RedisURL         Secret        `env:"RELAY_REDIS_URL" help:"redis://, rediss:// or unix:// URL, with ?addr= for further nodes and ?master_set= for Sentinel"`
	RedisCAFile      string        `env:"RELAY_REDIS_CA_FILE" help:"file of PEM certificates to trust beside the system's, for a rediss:// URL"`
	SentinelUser     string        `env:"RELAY_REDIS_SENTINEL_USER" help:"user at the Sentinels; the URL's is that of Redis itself"`
	SentinelPassword Secret        `env:"RELAY_REDIS_SENTINEL_PASSWORD" help:"password at the Sentinels"`
	ResumeGrace      time.Duration `env:"RELAY_RESUME_GRACE" envDefault:"60s" help:"how long an answer is generated on without anybody reading it; at least 5s with redis"`
	ResumeRetention  time.Duration `env:"RELAY_RESUME_RETENTION" envDefault:"10m" help:"how long a finished stream can be read again"`
	ResumeBytes      ByteSize      `env:"RELAY_RESUME_BYTES" envDefault:"256MiB" help:"memory for all streams of this process; beyond it ended ones give way, then growing ones of the caller with most, and new ones get 503 overloaded; 0: no cap"`
	ResumePerStream  ByteSize      `env:"RELAY_RESUME_BYTES_PER_STREAM" envDefault:"8MiB" help:"one stream's log, beyond it the stream ends; 0: no cap"`

	TraceInbound string `env:"RELAY_TRACE_INBOUND" envDefault:"auto" group:"Traces (OTEL_EXPORTER_OTLP_ENDPOINT and the rest of OpenTelemetry's variables say where they go)" help:"what a traceparent of a request means: parent, its trace goes on here; link, the relay's own trace points to it; ignore; auto: parent where callers need a key or token, otherwise link, because whether a parent is sampled is the caller's choice"`

	LogLevel  string `env:"RELAY_LOG_LEVEL" envDefault:"info" group:"Logging" help:"trace, debug, info, warn or error"`
	LogFormat string `env:"RELAY_LOG_FORMAT" envDefault:"auto" help:"json, console or auto: console on a terminal, JSON otherwise"`

	// Models says who answers what. Without any, the upstreams are asked one after the other for all that the first
	// one allows.
	Models []Model `env:"-"`

	// Tiers and Callers are of a file: the limits of those who are in a tier by their token or API key, and what
	// holds for the API key of a name.
	Tiers   map[string]Limits `env:"-"`
	Callers map[string]Caller `env:"-"`

	// FileSum is that of what was read of File, to know by whether it has changed since.
	FileSum [sha256.Size]byte `env:"-"`

	// Upstreams are the providers in the order they are tried; there is always a first.
	Upstreams []Upstream `env:"-"`

	// Warnings are lines for the start-up log about settings that work but look like mistakes.
	Warnings []string `env:"-"`
}

// Upstream is one provider: what it speaks, where it is and how long to wait for it. The names in
// its tags follow a prefix, UPSTREAM_ for the first provider, UPSTREAM_1_, UPSTREAM_2_ and so on for those
// that are asked when it fails.
type Upstream struct {
	Number int `env:"-"` // of the prefix, 0 for the first

	Kind         string   `env:"KIND" unset:"by key, else demo" group:"Provider" help:"what the provider speaks, see below"`
	Name         string   `env:"NAME" unset:"the kind and number" help:"what the upstream is called in logs, metrics and routes"`
	BaseURL      string   `env:"BASE_URL" unset:"the provider's own" help:"http or https URL that the provider's paths are appended to; required where the kind has none"`
	APIKey       Secret   `env:"API_KEY" help:"the relay's own key at the provider"`
	Auth         string   `env:"AUTH" envDefault:"key" help:"whose requests are: of the key's owner (key), or of the identity that the relay has in a cloud (aws, google, azure)"`
	AuthScope    string   `env:"AUTH_SCOPE" unset:"by AUTH and address" help:"what the cloud's credential is for: aws region/service, google and azure a scope"`
	Model        string   `env:"MODEL" help:"model for requests that name none; of a fallback: for all that its MODELS don't have"`
	Models       []string `env:"MODELS" help:"models that requests may name, comma-separated, * matches any run of characters, name=other asks the provider for other; empty: all"`
	APIVersion   string   `env:"API_VERSION" envDefault:"2024-10-21" help:"the azure kind's api-version; empty for the others"`
	Pass         []string `env:"PASS" help:"further fields of requests that reach the provider beside the relay's list, comma-separated; *: all. docs/providers.md has the list"`
	Family       []string `env:"FAMILY" help:"whose rules hold for models whose names don't say it, comma-separated: a family (claude, gpt, gemini), a provider (deepseek, kimi, ...), another model's name, or none; name=family for some, * matches any run of characters. docs/providers.md has the rules"`
	DropFields   []string `env:"DROP_FIELDS" help:"fields that are left out of requests to the provider, comma-separated; a.b is a field of an object"`
	RenameFields []string `env:"RENAME_FIELDS" help:"fields that the provider has by another name, name=other, comma-separated"`
	AddFields    string   `env:"ADD_FIELDS" help:"a JSON object of fields that each request gets, in place of those of the same names; applied last"`
	StreamUsage  bool     `env:"STREAM_OPTIONS" envDefault:"true" help:"ask for usage with stream_options, where the format has it"`
	ThinkTags    bool     `env:"THINK_TAGS" envDefault:"false" help:"tell thinking from text where an answer begins with <think>"`

	CAFile  string   `env:"CA_FILE" help:"file of PEM certificates to trust beside the system's, for a provider with a private authority"`
	Headers []Header `env:"HEADERS,-" help:"further headers of each request, Name: value or Name=value, comma-separated; or one a line, then values may have commas"`

	ConnectTimeout    time.Duration `env:"CONNECT_TIMEOUT" envDefault:"5s" help:"DNS and TCP together, and then TLS"`
	FirstChunkTimeout time.Duration `env:"FIRST_CHUNK_TIMEOUT" envDefault:"60s" help:"wait for the first piece of the answer"`
	IdleTimeout       time.Duration `env:"IDLE_TIMEOUT" envDefault:"60s" help:"wait between pieces of the answer; the provider's own pings don't count"`
	ThinkingTimeout   time.Duration `env:"THINKING_TIMEOUT" envDefault:"10m" help:"the same while the model thinks, of which providers may show nothing for minutes"`
	Retries           int           `env:"RETRIES" envDefault:"2" help:"further attempts before the first chunk, 0 to 10"`
	MaxStreams        int           `env:"MAX_STREAMS" envDefault:"0" help:"open streams at the provider, shared fairly by callers; 0: no cap"`
	Queue             int           `env:"QUEUE" unset:"as MAX_STREAMS" help:"how many may wait for a place; 0: none"`
	QueueTimeout      time.Duration `env:"QUEUE_TIMEOUT" envDefault:"5s" help:"longest wait for a place, while the client gets pings; 0: none"`
}

// v1MaxBody is the least default of RELAY_V1_MAX_BODY.
const v1MaxBody ByteSize = 8 << 20

// bodyBytes is the default of RELAY_BODY_BYTES, unless RELAY_MAX_BODY asks for more.
const bodyBytes = 128 << 20

// Problems is everything that is wrong with the settings, a line for each, which begins with the name of
// one. No line holds a secret.
type Problems []string

func (p Problems) Error() string { return strings.Join(p, "\n") }

// Load reads the settings from environ, which is like os.Environ(), and from the file that it names. Space around a
// value is not part of it. An empty variable counts as not set, except for RELAY_ADMIN_ADDR. A secret can also be the
// content of the file that its name with _FILE appended points to. The error is of type Problems.
func Load(environ []string, kinds Kinds) (*Config, error) {
	c, _, err := load(environ, kinds)
	return c, err
}

// load gives what its report is about as well.
func load(environ []string, kinds Kinds) (*Config, *report, error) {
	variables := newEnvironment(environ)
	r := &report{source: variables, kinds: kinds}
	c := &Config{}
	if name, _ := variables.text("config"); name != "" {
		f, err := readFile(name, variables, r)
		if err != nil {
			return nil, nil, Problems{err.Error()}
		}
		f.refuseUpstreams(r)
		c.Models, c.Tiers, c.Callers, c.FileSum = f.routes, f.tiers, f.callers, f.sum
	}
	(&loader{r}).config(c)
	c.validate(r)
	if len(r.problems) > 0 {
		return nil, nil, r.problems
	}
	variables.warnUnknown(r)
	c.Warnings = r.warnings
	return c, r, nil
}

// config reads everything, and completes it with what follows from other settings.
func (l *loader) config(c *Config) {
	l.parse(func(key string) path { return path(key) }, c)
	if addr, set := l.source.text("admin_addr"); set && addr == "" {
		c.AdminAddr = "" // off; env has put the default here, as it does for every empty text
	}
	c.completeBodies(l.given("v1_max_body"), l.given("body_bytes"))
	l.refuseFormer()
	c.APIKeys = l.apiKeys("api_keys")
	c.Upstreams = l.upstreams()
}

// completeBodies sets the bounds of bodies that follow from others when they are not given.
func (c *Config) completeBodies(v1, all bool) {
	if !v1 {
		c.V1MaxBody = max(v1MaxBody, c.MaxBody)
		if all && c.BodyBytes > 0 {
			c.V1MaxBody = max(c.MaxBody, min(c.V1MaxBody, c.BodyBytes/4))
		}
	}
	if !all {
		c.BodyBytes = max(bodyBytes, 4*c.MaxBody, 4*c.V1MaxBody)
	}
}

// Redacted returns every setting by variable name for the start-up log. Secrets read "***" and keys
// are only counted.
func (c *Config) Redacted() map[string]string {
	shown := make(map[string]string)
	for _, s := range c.settings() {
		shown[s.name] = s.shown()
	}
	return shown
}

// setting is one variable, as its struct field describes it.
type setting struct {
	tag               string // the variable without its prefix, unless that is RELAY_
	key               string // the last member of the path
	name, group, help string
	fallback          string // what holds when the variable is not set, for people
	secret            bool
	value             reflect.Value
}

func (c *Config) settings() []setting {
	all := settingsOf("", c)
	for i := range c.Upstreams {
		all = append(all, settingsOf(upstreamPrefix(c.Upstreams[i].Number), &c.Upstreams[i])...)
	}
	return all
}

func settingsOf(prefix string, structPtr any) []setting {
	var all []setting
	v := reflect.ValueOf(structPtr).Elem()
	for f, value := range v.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		if name == "-" {
			continue
		}
		s := setting{tag: name, key: keyOfTag(name), name: prefix + name, value: value}
		s.group, s.help = f.Tag.Get("group"), f.Tag.Get("help")
		s.fallback = f.Tag.Get("envDefault") + f.Tag.Get("unset")
		switch value.Interface().(type) {
		case Secret, []APIKey, []Header:
			s.secret = true
		}
		all = append(all, s)
	}
	return all
}

// keyOfTag is how a field is called in paths.
func keyOfTag(tag string) string { return strings.ToLower(strings.TrimPrefix(tag, "RELAY_")) }

func (s setting) shown() string {
	switch v := s.value.Interface().(type) {
	case []APIKey:
		return strconv.Itoa(len(v))
	case []Header:
		var names []string
		for _, h := range v {
			names = append(names, h.Name+": "+h.Value.String())
		}
		return strings.Join(names, ",")
	case []string:
		return strings.Join(v, ",")
	case []netip.Prefix:
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]")
	default:
		return fmt.Sprint(v)
	}
}
