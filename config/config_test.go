package config_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/upstream/provider"
)

// kinds are those that there are, as cmd/relay has them.
var kinds = func() (all config.Kinds) {
	for _, k := range provider.Kinds() {
		all = append(all, config.Kind(k))
	}
	return all
}()

// allKinds is what problems with a kind end with.
var allKinds = func() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.Name)
	}
	return "use one of " + strings.Join(names, ", ")
}()

func read(environ []string) (*config.Config, error) { return config.Load(environ, kinds) }

func load(t *testing.T, environ ...string) *config.Config {
	t.Helper()
	c, err := read(environ)
	require.NoError(t, err)
	return c
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestWithoutAnySettingTheDemoServesWithTheDocumentedDefaults(t *testing.T) {
	t.Setenv("RELAY_ADDR", ":1") // the process's own environment must not be looked at
	want := &config.Config{
		Addr: ":8080", AdminAddr: "127.0.0.1:9090", PProf: "auto", UI: true,
		MaxBody: 8 << 20, V1MaxBody: 8 << 20, BodyBytes: 128 << 20, MaxStreamBytes: 64 << 20,
		MaxDuration: 15 * time.Minute,
		BodyTimeout: 30 * time.Second, Heartbeat: 15 * time.Second, WriteTimeout: 10 * time.Second,
		StartBudget:   90 * time.Second,
		ShutdownGrace: 25 * time.Second,

		Store: "memory", ResumeGrace: time.Minute, ResumeRetention: 10 * time.Minute,
		ResumeBytes: 256 << 20, ResumePerStream: 8 << 20,
		JWTAlgorithms: []string{"RS256", "ES256", "EdDSA"}, LimitFallback: "local", TraceInbound: "link",
		LimitAttach: config.Rate{Count: 1200, Window: time.Minute, Burst: 600},

		LogLevel: "info", LogFormat: "auto",
		Upstreams: []config.Upstream{{
			Name: "demo", Kind: "demo", Auth: "key", Retries: 2, StreamUsage: true,
			ConnectTimeout: 5 * time.Second, FirstChunkTimeout: time.Minute, IdleTimeout: time.Minute,
			ThinkingTimeout: 10 * time.Minute,
			QueueTimeout:    5 * time.Second,
		}},
	}
	require.Equal(t, want, load(t))
	require.Equal(t, want, load(t, "PATH=/bin", "HOME=/root"))
}

func TestEveryVariableReachesItsField(t *testing.T) {
	certFile, keyFile := certificate(t)
	c := load(t,
		"RELAY_ADDR=127.0.0.1:0", "RELAY_ADMIN_ADDR=[::1]:9091", "RELAY_PPROF=True",
		"RELAY_TLS_CERT="+certFile, "RELAY_TLS_KEY="+keyFile, "RELAY_UI=false",
		"RELAY_API_KEYS=web:web-key-0123456789, bare-key-0123456789",
		"RELAY_CORS_ORIGINS=https://App.example.com:443, chrome-extension://abcdef",
		"RELAY_TRUSTED_PROXIES=10.0.0.0/8", "RELAY_HOSTS=Chat.example.com., *.example.org",
		"RELAY_MAX_BODY=2MB", "RELAY_V1_MAX_BODY=1500KB", "RELAY_BODY_BYTES=8MB", "RELAY_BODY_TIMEOUT=1m",
		"RELAY_MAX_STREAMS=7", "RELAY_MAX_STREAM_BYTES=512KiB", "RELAY_MAX_DURATION=0",
		"RELAY_HEARTBEAT=0", "RELAY_WRITE_TIMEOUT=3s", "RELAY_START_BUDGET=1m30s",
		"RELAY_SHUTDOWN_DELAY=5s", "RELAY_SHUTDOWN_GRACE=0s",
		"RELAY_STORE=Redis", "RELAY_REDIS_URL=rediss://u:p@r:6380/1?master_set=m",
		"RELAY_REDIS_CA_FILE="+certFile, "RELAY_REDIS_SENTINEL_USER=su", "RELAY_REDIS_SENTINEL_PASSWORD=sp",
		"RELAY_RESUME_GRACE=5s", "RELAY_RESUME_RETENTION=1s",
		"RELAY_RESUME_BYTES=1GiB", "RELAY_RESUME_BYTES_PER_STREAM=0", "RELAY_LIMIT_STREAMS=9",
		"RELAY_LIMIT_ATTACH=9/h",
		"RELAY_LIMIT_REQUESTS=60/m:10", "RELAY_LIMIT_TOKENS=100000/h", "RELAY_BUDGET_TOKENS=2000000/d",
		"RELAY_LIMIT_FALLBACK=Closed",
		"RELAY_JWT_ISSUER=https://login.example.com/", "RELAY_JWT_JWKS="+certFile, "RELAY_JWT_AUDIENCE=relay,chat",
		"RELAY_JWT_ALGORITHMS=ps256,EDDSA",
		"RELAY_JWT_REQUIRE=groups=chat,a.b=c=d", "RELAY_JWT_NAME_CLAIM=email", "RELAY_JWT_TIER_CLAIM=plan",
		"RELAY_JWT_COOKIE=__Host-session", "RELAY_JWT_CA_FILE="+certFile,
		"RELAY_TRACE_INBOUND=Ignore", "RELAY_LOG_LEVEL=DEBUG", "RELAY_LOG_FORMAT=json",
		"UPSTREAM_KIND=azure", "UPSTREAM_BASE_URL=https://x.openai.azure.com/openai/", "UPSTREAM_API_KEY=az-key",
		"UPSTREAM_MODEL=gpt-4o", "UPSTREAM_MODELS=gpt-4*,o3", "UPSTREAM_API_VERSION=2025-01-01-preview",
		"UPSTREAM_FAMILY=my-*=gpt-5.5,none", "UPSTREAM_DROP_FIELDS=user,a.b",
		"UPSTREAM_RENAME_FIELDS=seed=random_seed",
		`UPSTREAM_ADD_FIELDS={"x":{"y":1}}`, "UPSTREAM_STREAM_OPTIONS=false", "UPSTREAM_THINK_TAGS=true",
		"UPSTREAM_CONNECT_TIMEOUT=1s", "UPSTREAM_FIRST_CHUNK_TIMEOUT=2m", "UPSTREAM_IDLE_TIMEOUT=30s",
		"UPSTREAM_THINKING_TIMEOUT=20m", "UPSTREAM_RETRIES=0",
		"UPSTREAM_CA_FILE="+certFile, "UPSTREAM_HEADERS=X-Team: a b,X-Key=k:=", "UPSTREAM_MAX_STREAMS=100",
		"UPSTREAM_QUEUE=300", "UPSTREAM_QUEUE_TIMEOUT=0",
		"UPSTREAM_AUTH=key", "RELAY_HEDGE_AFTER=2s", "UPSTREAM_9_KIND=demo", "UPSTREAM_9_AUTH=google",
		"UPSTREAM_9_AUTH_SCOPE=https://a.example/b", "UPSTREAM_9_MODEL=demo-fast", "UPSTREAM_9_QUEUE_TIMEOUT=1s",
	)
	require.Equal(t, &config.Config{
		Addr: "127.0.0.1:0", AdminAddr: "[::1]:9091", PProf: "true", TLSCert: certFile, TLSKey: keyFile,
		APIKeys:        []config.APIKey{{Name: "web", Key: "web-key-0123456789"}, {Key: "bare-key-0123456789"}},
		CORSOrigins:    []string{"https://app.example.com", "chrome-extension://abcdef"},
		Hosts:          []string{"chat.example.com", "*.example.org"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		MaxBody:        2_000_000, V1MaxBody: 1_500_000, BodyBytes: 8_000_000, BodyTimeout: time.Minute, MaxStreams: 7,
		MaxStreamBytes: 512 << 10,
		WriteTimeout:   3 * time.Second, StartBudget: 90 * time.Second, HedgeAfter: 2 * time.Second,
		ShutdownDelay: 5 * time.Second,
		Store:         "redis", RedisURL: "rediss://u:p@r:6380/1?master_set=m",
		RedisCAFile: certFile, SentinelUser: "su", SentinelPassword: "sp", ResumeGrace: 5 * time.Second,
		ResumeRetention: time.Second,
		ResumeBytes:     1 << 30, LimitStreams: 9, LimitAttach: config.Rate{Count: 9, Window: time.Hour},
		LimitRequests: config.Rate{Count: 60, Window: time.Minute, Burst: 10},
		LimitTokens:   config.Rate{Count: 100_000, Window: time.Hour},
		BudgetTokens:  config.Rate{Count: 2_000_000, Window: 24 * time.Hour}, LimitFallback: "closed",
		TraceInbound: "ignore",
		JWTIssuer:    "https://login.example.com/", JWTKeys: certFile, JWTAudience: []string{"relay", "chat"},
		JWTAlgorithms: []string{"PS256", "EdDSA"},
		JWTRequire:    []string{"groups=chat", "a.b=c=d"}, JWTNameClaim: "email", JWTTierClaim: "plan",
		JWTCookie: "__Host-session", JWTCAFile: certFile,
		LogLevel: "debug", LogFormat: "json",
		Upstreams: []config.Upstream{{
			Name: "azure", Kind: "azure", BaseURL: "https://x.openai.azure.com/openai", APIKey: "az-key", Auth: "key",
			Model: "gpt-4o", Models: []string{"gpt-4*", "o3"}, APIVersion: "2025-01-01-preview",
			Family: []string{"my-*=gpt-5.5", "none"}, DropFields: []string{"user", "a.b"},
			RenameFields: []string{"seed=random_seed"},
			AddFields:    `{"x":{"y":1}}`, ThinkTags: true,
			ConnectTimeout: time.Second, FirstChunkTimeout: 2 * time.Minute, IdleTimeout: 30 * time.Second,
			ThinkingTimeout: 20 * time.Minute,
			CAFile:          certFile, Headers: []config.Header{{Name: "X-Team", Value: "a b"},
				{Name: "X-Key", Value: "k:="}}, MaxStreams: 100, Queue: 300,
		}, {
			Name: "demo-9", Number: 9, Kind: "demo", Auth: "google", AuthScope: "https://a.example/b",
			Model: "demo-fast", Retries: 2, StreamUsage: true,
			ConnectTimeout: 5 * time.Second, FirstChunkTimeout: time.Minute, IdleTimeout: time.Minute,
			ThinkingTimeout: 10 * time.Minute, QueueTimeout: time.Second,
		}},
	}, c)
}

func TestTheLineForAPlaceIsAsLongAsThePlacesAreMany(t *testing.T) {
	require.Equal(t, 7, load(t, "UPSTREAM_MAX_STREAMS=7").Upstreams[0].Queue)
	require.Equal(t, 9, load(t, "UPSTREAM_MAX_STREAMS=7", "UPSTREAM_QUEUE=9").Upstreams[0].Queue)
	require.Zero(t, load(t, "UPSTREAM_MAX_STREAMS=7", "UPSTREAM_QUEUE=0").Upstreams[0].Queue)
	require.Equal(t, []string{"UPSTREAM_QUEUE has no effect: UPSTREAM_MAX_STREAMS is not set, so nobody waits"},
		load(t, "UPSTREAM_QUEUE=9").Warnings)
	require.Equal(t, []string{"UPSTREAM_QUEUE_TIMEOUT is not below RELAY_START_BUDGET, which ends the wait for a " +
		"place after 1m30s"},
		load(t, "UPSTREAM_MAX_STREAMS=7", "UPSTREAM_QUEUE_TIMEOUT=2m").Warnings)
}

func TestARedisURLThatIsNotUsedIsWarnedOf(t *testing.T) {
	c := load(t, "RELAY_REDIS_URL=redis://localhost")
	require.Equal(t, []string{"RELAY_REDIS_URL is set, but RELAY_STORE is memory: Redis is not used"}, c.Warnings)
}

func TestThereIsRoomForTwoQuestions(t *testing.T) {
	require.Equal(t, config.ByteSize(400<<20), load(t, "RELAY_MAX_BODY=100MiB").BodyBytes)
	require.Equal(t, config.ByteSize(400<<20), load(t, "RELAY_V1_MAX_BODY=100MiB").BodyBytes)
	require.Equal(t, config.ByteSize(100<<20), load(t, "RELAY_MAX_BODY=100MiB").V1MaxBody)
	require.Equal(t, config.ByteSize(8<<20), load(t, "RELAY_MAX_BODY=1MiB").V1MaxBody)
	require.Equal(t, config.ByteSize(2<<20), load(t, "RELAY_MAX_BODY=1MiB", "RELAY_BODY_BYTES=8MiB").V1MaxBody)
	require.Zero(t, load(t, "RELAY_BODY_BYTES=0").BodyBytes, "no cap")
}

func TestAnEmptyVariableCountsAsNotSet(t *testing.T) {
	var environ []string
	for name := range load(t).Redacted() {
		if name != "RELAY_ADMIN_ADDR" {
			environ = append(environ, name+"=", name+"_FILE=  ")
		}
	}
	got := load(t, environ...)
	got.Warnings = nil // of the _FILE variables that are no settings
	require.Equal(t, load(t), got)
}

func TestAnEmptyAdminAddressTurnsItOff(t *testing.T) {
	require.Empty(t, load(t, "RELAY_ADMIN_ADDR=").AdminAddr)
	require.Empty(t, load(t, "RELAY_ADMIN_ADDR= ").AdminAddr)
}

func TestSpaceAroundAValueIsNotPartOfIt(t *testing.T) {
	c := load(t, "RELAY_ADDR= :8081\r", "OPENAI_API_KEY=sk-test\n")
	require.Equal(t, ":8081", c.Addr)
	require.Equal(t, "sk-test", c.Upstreams[0].APIKey.Reveal())
}

func TestSecretsComeFromFiles(t *testing.T) {
	c := load(t,
		"RELAY_API_KEYS_FILE="+file(t, "web:web-key-0123456789,app:app-key-0123456789\r\nbare-key-0123456789\n\n"),
		"UPSTREAM_KIND=openai", "UPSTREAM_API_KEY_FILE="+file(t, "sk-from-file\n"))
	require.Equal(t, []config.APIKey{
		{Name: "web", Key: "web-key-0123456789"}, {Name: "app", Key: "app-key-0123456789"},
		{Key: "bare-key-0123456789"},
	}, c.APIKeys)
	require.Equal(t, "sk-from-file", c.Upstreams[0].APIKey.Reveal())
	require.Empty(t, c.Warnings)

	c = load(t, "OPENAI_API_KEY_FILE="+file(t, "sk-openai"))
	require.Equal(t, "openai-responses", c.Upstreams[0].Kind)
	require.Equal(t, "sk-openai", c.Upstreams[0].APIKey.Reveal())
}

// env reads slices of structs from numbered variables; such a key would be one nobody gave out.
func TestNumberedVariablesMakeNoKey(t *testing.T) {
	require.Empty(t, load(t, "0_=x", "RELAY_API_KEYS_0_KEY=x").APIKeys)
}

func TestShortKeysAreAcceptedWithAWarning(t *testing.T) {
	c := load(t, "RELAY_API_KEYS=long-enough-012345,web:short")
	require.Len(t, c.APIKeys, 2)
	require.Equal(t, []string{"RELAY_API_KEYS: the key of entry 2 is shorter than 16 characters and may be guessed"},
		c.Warnings)
}

func TestRedactedShowsEverySettingButNoSecret(t *testing.T) {
	c := load(t, "RELAY_API_KEYS=web:web-key-0123456789", "OPENAI_API_KEY=sk-do-not-show", "UPSTREAM_MODELS=a,b",
		"UPSTREAM_HEADERS=X-Key: do-not-show, X-Team: do-not-show", "UPSTREAM_2_KIND=demo",
		"UPSTREAM_2_API_KEY=do-not-show")
	shown := c.Redacted()
	require.Equal(t, "***", shown["UPSTREAM_API_KEY"])
	require.Equal(t, "***", shown["UPSTREAM_2_API_KEY"])
	require.Equal(t, "X-Key: ***,X-Team: ***", shown["UPSTREAM_HEADERS"])
	require.Equal(t, "1", shown["RELAY_API_KEYS"])
	require.Equal(t, "a,b", shown["UPSTREAM_MODELS"])
	require.Equal(t, "8MiB", shown["RELAY_MAX_BODY"])
	require.Equal(t, "15s", shown["RELAY_HEARTBEAT"])
	require.Equal(t, "true", shown["RELAY_UI"])

	for _, s := range []string{fmt.Sprint(shown), fmt.Sprintf("%+v", *c), fmt.Sprintf("%#v", c.Upstreams)} {
		require.NotContains(t, s, "do-not-show")
		require.NotContains(t, s, "web-key")
	}
}

func TestTrustedProxiesAreAddressesAndNetworks(t *testing.T) {
	c := load(t, "RELAY_TRUSTED_PROXIES=192.0.2.7, 10.1.2.3/8,2001:db8::/32,::1")
	require.Equal(t, "192.0.2.7/32,10.0.0.0/8,2001:db8::/32,::1/128", c.Redacted()["RELAY_TRUSTED_PROXIES"])

	c = load(t, "RELAY_TRUSTED_PROXIES=private")
	for addr, private := range map[string]bool{"127.0.0.1": true, "172.18.0.4": true, "fd00::1": true,
		"203.0.113.7": false, "2001:db8::1": false} {
		is := slices.ContainsFunc(c.TrustedProxies,
			func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(addr)) })
		require.Equal(t, private, is, addr)
	}
}
