package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
)

// certificate returns the files of a certificate and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
		file(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

func TestAProblemNamesItsVariableAndTheRemedy(t *testing.T) {
	const (
		noAddress = "is not an address; use host:port or :port, e.g. :8080"
		noOrigin  = "is not an origin; use * or scheme://host[:port] without a path, e.g. https://app.example.com " +
			"or, for all hosts below a domain of yours, https://*.example.com"
		noURL     = "UPSTREAM_BASE_URL: not an absolute http or https URL; use e.g. https://llm.example.com/v1"
		extraURL  = "UPSTREAM_BASE_URL: must not have a user, query or fragment"
		noSize    = "is not a size; use e.g. 1MiB, 512KiB or 1048576"
		noNetwork = "is neither an address nor a network, e.g. 192.0.2.7, 10.0.0.0/8 or private"
		noHost    = "is not a host name; use chat.example.com, *.example.com or *, without scheme and port"
		noModel   = "is neither a name nor name=other, where other has no *"
		noHeader  = "is not of the form Name: value or Name=value"
		tokenOnly = "has characters other than printable ASCII without spaces"
		goodKey   = "UPSTREAM_API_KEY=sk-1"
		notARate  = "is not a rate; use a number for each s, m, h or d, perhaps with what of it may be used at " +
			"once: 60/m or 60/m:10"
		jwt         = "RELAY_JWT_AUDIENCE=relay;"
		issuer      = jwt + "RELAY_JWT_ISSUER=https://login.example.com;"
		notHTTPS    = "not an https URL; use e.g. https://login.example.com/"
		algorithms  = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA"
		noTokens    = "set, but neither RELAY_JWT_ISSUER nor RELAY_JWT_JWKS is: no tokens are accepted"
		redis       = "RELAY_STORE=redis;RELAY_REDIS_URL="
		parameters  = "addr, client_name, db, dial_timeout, master_set, protocol, skip_verify, write_timeout"
		noCert      = "is not a rediss:// URL: there is no certificate to check"
		noSentinel  = ": set, but RELAY_REDIS_URL has no master_set: there is no Sentinel"
		encodedOnly = "characters of a password other than letters and digits must be percent-encoded"
		encoded     = "such as redis://user:password@host:6379/0; " + encodedOnly
		azureURL    = "UPSTREAM_BASE_URL=https://x.openai.azure.com"
	)
	certFile, keyFile := certificate(t)
	_, otherKey := certificate(t)
	absent := t.TempDir() + "/absent"

	for name, tc := range map[string]struct {
		environ string // variables separated by semicolons
		want    string
	}{
		"a duration without a unit": {"RELAY_HEARTBEAT=15",
			`RELAY_HEARTBEAT: "15" is not a duration; use a unit, e.g. 15s`},
		"a provider's duration without a unit": {"UPSTREAM_IDLE_TIMEOUT=60",
			`UPSTREAM_IDLE_TIMEOUT: "60" is not a duration; use a unit, e.g. 15s`},
		"a heartbeat under a second": {"RELAY_HEARTBEAT=500ms",
			"RELAY_HEARTBEAT: must be 0 or at least 1s, not 500ms"},
		"a negative heartbeat":        {"RELAY_HEARTBEAT=-1s", "RELAY_HEARTBEAT: must be 0 or at least 1s, not -1s"},
		"no write timeout":            {"RELAY_WRITE_TIMEOUT=0", "RELAY_WRITE_TIMEOUT: must be more than 0"},
		"no start budget":             {"RELAY_START_BUDGET=0s", "RELAY_START_BUDGET: must be more than 0"},
		"a negative maximal duration": {"RELAY_MAX_DURATION=-1s", "RELAY_MAX_DURATION: must not be negative"},
		"a negative shutdown delay":   {"RELAY_SHUTDOWN_DELAY=-1s", "RELAY_SHUTDOWN_DELAY: must not be negative"},
		"a negative shutdown grace":   {"RELAY_SHUTDOWN_GRACE=-1s", "RELAY_SHUTDOWN_GRACE: must not be negative"},
		"no connect timeout":          {"UPSTREAM_CONNECT_TIMEOUT=0", "UPSTREAM_CONNECT_TIMEOUT: must be more than 0"},
		"no first-chunk timeout": {"UPSTREAM_FIRST_CHUNK_TIMEOUT=0",
			"UPSTREAM_FIRST_CHUNK_TIMEOUT: must be more than 0"},
		"a negative thinking timeout": {"UPSTREAM_THINKING_TIMEOUT=-1s",
			"UPSTREAM_THINKING_TIMEOUT: must be more than 0"},
		"a negative idle timeout": {"UPSTREAM_IDLE_TIMEOUT=-1s", "UPSTREAM_IDLE_TIMEOUT: must be more than 0"},

		"a proxy by its name": {"RELAY_TRUSTED_PROXIES=nginx",
			`RELAY_TRUSTED_PROXIES: "nginx" ` + noNetwork},
		"a network that is too wide": {"RELAY_TRUSTED_PROXIES=10.0.0.0/64",
			`RELAY_TRUSTED_PROXIES: "10.0.0.0/64" ` + noNetwork},
		"IPv4 written as IPv6": {"RELAY_TRUSTED_PROXIES=::ffff:10.0.0.1",
			`RELAY_TRUSTED_PROXIES: "::ffff:10.0.0.1" ` + noNetwork},
		"no proxy but a comma": {"RELAY_TRUSTED_PROXIES=,",
			"RELAY_TRUSTED_PROXIES: has only separators"},
		"a host with a scheme": {"RELAY_HOSTS=https://chat.example.com",
			`RELAY_HOSTS: "https://chat.example.com" ` + noHost},
		"a host with a port": {"RELAY_HOSTS=chat.example.com:8080",
			`RELAY_HOSTS: "chat.example.com:8080" ` + noHost},
		"a host with a star inside": {"RELAY_HOSTS=chat*.example.com",
			`RELAY_HOSTS: "chat*.example.com" ` + noHost},
		"pprof perhaps": {"RELAY_PPROF=maybe",
			`RELAY_PPROF: "maybe" is not one of auto, true, false`},
		"a size that is a word": {"RELAY_MAX_BODY=big", `RELAY_MAX_BODY: "big" ` + noSize},
		"a negative size": {"RELAY_MAX_STREAM_BYTES=-1",
			`RELAY_MAX_STREAM_BYTES: "-1" ` + noSize},
		"a body cap of nothing": {"RELAY_MAX_BODY=0", "RELAY_MAX_BODY: must be more than 0"},
		"room for one body only": {"RELAY_BODY_BYTES=31MiB",
			"RELAY_BODY_BYTES: must be 0 or at least 32MiB: one caller gets half, and a body of RELAY_MAX_BODY " +
				"takes twice its size"},
		"a body cap of nothing below /v1/": {"RELAY_V1_MAX_BODY=0",
			"RELAY_V1_MAX_BODY: must be more than 0"},
		"no body timeout": {"RELAY_BODY_TIMEOUT=0",
			"RELAY_BODY_TIMEOUT: must be more than 0"},
		"a number that is a word": {"RELAY_MAX_STREAMS=many",
			`RELAY_MAX_STREAMS: "many" is not a whole number`},
		"a negative number of streams": {"RELAY_MAX_STREAMS=-1",
			"RELAY_MAX_STREAMS: must not be negative"},
		"too many retries": {"UPSTREAM_RETRIES=11",
			"UPSTREAM_RETRIES: must be 0 to 10, not 11"},
		"negative retries": {"UPSTREAM_RETRIES=-1",
			"UPSTREAM_RETRIES: must be 0 to 10, not -1"},
		"a switch that is neither": {"RELAY_UI=maybe",
			`RELAY_UI: "maybe" is neither true nor false`},
		"a store that is none": {"RELAY_STORE=disk",
			`RELAY_STORE: "disk" is not one of memory, redis, off`},
		"Redis without its URL": {"RELAY_STORE=redis",
			"RELAY_REDIS_URL: must be set for RELAY_STORE=redis, e.g. redis://localhost:6379"},
		"a Redis URL of another scheme": {"RELAY_STORE=redis;RELAY_REDIS_URL=http://u:do-not-show@h",
			"RELAY_REDIS_URL: not a redis://, rediss:// or unix:// URL"},
		"a negative grace": {"RELAY_RESUME_GRACE=-1s",
			"RELAY_RESUME_GRACE: must not be negative"},
		"a grace too short to hear of other readers": {
			"RELAY_STORE=redis;RELAY_REDIS_URL=redis://h;RELAY_RESUME_GRACE=1s",
			"RELAY_RESUME_GRACE: must be at least 5s with RELAY_STORE=redis, not 1s"},
		"no retention": {"RELAY_RESUME_RETENTION=0s", "RELAY_RESUME_RETENTION: must be at least 1s, not 0s"},
		"a negative number of a caller's streams": {"RELAY_LIMIT_STREAMS=-1",
			"RELAY_LIMIT_STREAMS: must not be negative"},
		"a rate without its time": {"RELAY_LIMIT_REQUESTS=60", `RELAY_LIMIT_REQUESTS: "60" ` + notARate},
		"a rate of nothing":       {"RELAY_LIMIT_TOKENS=-5/m", `RELAY_LIMIT_TOKENS: "-5/m" ` + notARate},
		"a rate in another time":  {"RELAY_LIMIT_TOKENS=5/w", `RELAY_LIMIT_TOKENS: "5/w" ` + notARate},
		"a burst of nothing":      {"RELAY_LIMIT_TOKENS=5/m:0", `RELAY_LIMIT_TOKENS: "5/m:0" ` + notARate},
		"a rate that nobody can count": {"RELAY_LIMIT_TOKENS=9999999999999/s",
			`RELAY_LIMIT_TOKENS: "9999999999999/s" ` + notARate},
		"a budget that is not a day's": {"RELAY_BUDGET_TOKENS=5/h",
			"RELAY_BUDGET_TOKENS: 5/h is not tokens of a day; use e.g. 2000000/d"},
		"an unknown way without Redis": {"RELAY_LIMIT_FALLBACK=shut",
			`RELAY_LIMIT_FALLBACK: "shut" is not one of local, open, closed`},
		"a setting of former times": {"RELAY_RESUME_PER_CALLER=3",
			"RELAY_RESUME_PER_CALLER: is not a setting any more; use RELAY_LIMIT_STREAMS, which counts all answers " +
				"of a caller that are being generated"},

		"a log level zerolog lacks": {"RELAY_LOG_LEVEL=loud",
			`RELAY_LOG_LEVEL: "loud" is not one of trace, debug, info, warn, error`},
		"a trace that is kept": {"RELAY_TRACE_INBOUND=keep",
			`RELAY_TRACE_INBOUND: "keep" is not one of auto, parent, link, ignore`},
		"an unknown log format": {"RELAY_LOG_FORMAT=xml", `RELAY_LOG_FORMAT: "xml" is not one of auto, json, console`},

		"an address without a port": {"RELAY_ADDR=localhost", `RELAY_ADDR: "localhost" ` + noAddress},
		"an address that is a port": {"RELAY_ADDR=8080", `RELAY_ADDR: "8080" ` + noAddress},
		"an address that is a URL":  {"RELAY_ADDR=http://:8080", `RELAY_ADDR: "http://:8080" ` + noAddress},
		"a port that is too high":   {"RELAY_ADMIN_ADDR=:65536", `RELAY_ADMIN_ADDR: ":65536" ` + noAddress},
		"the admin address is the public": {"RELAY_ADMIN_ADDR=:8080",
			`RELAY_ADMIN_ADDR: ":8080" is RELAY_ADDR, too; metrics and pprof need an address of their own`},

		"a certificate without its key": {"RELAY_TLS_CERT=" + certFile,
			"RELAY_TLS_KEY: not set, but RELAY_TLS_CERT is; TLS needs both"},
		"a key without its certificate": {"RELAY_TLS_KEY=" + keyFile,
			"RELAY_TLS_CERT: not set, but RELAY_TLS_KEY is; TLS needs both"},
		"a certificate that is not there": {"RELAY_TLS_CERT=" + absent + ";RELAY_TLS_KEY=" + keyFile,
			"RELAY_TLS_CERT: open the file: no such file or directory"},
		"a key that is not there": {"RELAY_TLS_CERT=" + certFile + ";RELAY_TLS_KEY=" + absent,
			"RELAY_TLS_KEY: open the file: no such file or directory"},
		"a key of another certificate": {"RELAY_TLS_CERT=" + certFile + ";RELAY_TLS_KEY=" + otherKey,
			"RELAY_TLS_CERT: with RELAY_TLS_KEY: tls: private key does not match public key"},
		"a certificate that is not in PEM": {"RELAY_TLS_CERT=" + file(t, "x") + ";RELAY_TLS_KEY=" + keyFile,
			"RELAY_TLS_CERT: with RELAY_TLS_KEY: tls: failed to find any PEM data in certificate input"},

		"an origin with a path": {"RELAY_CORS_ORIGINS=https://a.example/",
			`RELAY_CORS_ORIGINS: "https://a.example/" ` + noOrigin},
		"an origin without a scheme": {"RELAY_CORS_ORIGINS=localhost:3000",
			`RELAY_CORS_ORIGINS: "localhost:3000" ` + noOrigin},
		"an origin with an empty port": {"RELAY_CORS_ORIGINS=https://a.example:",
			`RELAY_CORS_ORIGINS: "https://a.example:" ` + noOrigin},
		"an origin with a port too high": {"RELAY_CORS_ORIGINS=https://a.example:70000",
			`RELAY_CORS_ORIGINS: "https://a.example:70000" ` + noOrigin},
		"the origin of a sandbox": {"RELAY_CORS_ORIGINS=null", `RELAY_CORS_ORIGINS: "null" ` + noOrigin},
		"origins that are commas": {"RELAY_CORS_ORIGINS=,", "RELAY_CORS_ORIGINS: has only separators"},
		"each bad origin": {"RELAY_CORS_ORIGINS=a,http://b.example,c",
			`RELAY_CORS_ORIGINS: "a" ` + noOrigin + "\n" + `RELAY_CORS_ORIGINS: "c" ` + noOrigin},

		"tokens for anybody's services": {"RELAY_JWT_ISSUER=https://login.example.com",
			"RELAY_JWT_AUDIENCE: must be set with RELAY_JWT_ISSUER or RELAY_JWT_JWKS: " +
				"an issuer's tokens for other services would open the relay, too"},
		"an issuer that is no URL": {jwt + "RELAY_JWT_ISSUER=login.example.com",
			"RELAY_JWT_ISSUER: " + notHTTPS},
		"an issuer with a password": {jwt + "RELAY_JWT_ISSUER=https://me:do-not-show@login.example.com",
			"RELAY_JWT_ISSUER: " + notHTTPS},
		"keys that are at no https URL": {jwt + "RELAY_JWT_JWKS=ftp://login.example.com/keys",
			"RELAY_JWT_JWKS: " + notHTTPS},
		"keys in a file that is not there": {jwt + "RELAY_JWT_JWKS=" + absent,
			"RELAY_JWT_JWKS: neither an https URL nor a file: stat the file: no such file or directory"},
		"an algorithm that makes what it checks": {issuer + "RELAY_JWT_ALGORITHMS=RS256,HS256",
			`RELAY_JWT_ALGORITHMS: "HS256" is not one of ` + algorithms},
		"no algorithm at all": {issuer + "RELAY_JWT_ALGORITHMS=none",
			`RELAY_JWT_ALGORITHMS: "none" is not one of ` + algorithms},
		"a claim without its value": {issuer + "RELAY_JWT_REQUIRE=groups",
			`RELAY_JWT_REQUIRE: "groups" is not name=value`},
		"a cookie that is none": {issuer + "RELAY_JWT_COOKIE=a=b",
			`RELAY_JWT_COOKIE: "a=b" is not the name of a cookie; use e.g. __Host-session`},
		"a cookie for any page": {issuer + "RELAY_JWT_COOKIE=s;RELAY_CORS_ORIGINS=*",
			"RELAY_JWT_COOKIE: set, but RELAY_CORS_ORIGINS is *: any page could use a visitor's cookie; list the " +
				"origins that may"},
		"an authority for no issuer": {"RELAY_JWT_CA_FILE=" + certFile, "RELAY_JWT_CA_FILE: " + noTokens},
		"algorithms of nobody":       {"RELAY_JWT_ALGORITHMS=ES256", "RELAY_JWT_ALGORITHMS: " + noTokens},
		"an issuer without a discovery document": {jwt + "RELAY_JWT_ISSUER=https://login.example.com?tenant=a",
			"RELAY_JWT_ISSUER: has a query, and so no address of a discovery document; set RELAY_JWT_JWKS"},
		"an audience of nobody": {"RELAY_JWT_AUDIENCE=relay", "RELAY_JWT_AUDIENCE: " + noTokens},

		"keys that are commas": {"RELAY_API_KEYS=,",
			"RELAY_API_KEYS: has only separators; leave it unset to accept everyone"},
		"a name without a key": {"RELAY_API_KEYS=k-0123456789abcdef,web:",
			"RELAY_API_KEYS: entry 2 is not of the form name:key or key"},
		"a key with an empty name": {"RELAY_API_KEYS=:k-0123456789abcdef",
			"RELAY_API_KEYS: entry 1 is not of the form name:key or key"},
		"a key with a space":      {"RELAY_API_KEYS=do-not show", "RELAY_API_KEYS: entry 1 " + tokenOnly},
		"a key that is not ASCII": {"RELAY_API_KEYS=do-not-schön", "RELAY_API_KEYS: entry 1 " + tokenOnly},
		"a name twice": {"RELAY_API_KEYS=a:do-not-show-0123456789,a:k-0123456789abcdef",
			"RELAY_API_KEYS: entries 1 and 2 have the same name"},
		"a key twice": {"RELAY_API_KEYS=a:do-not-show-0123456789,do-not-show-0123456789",
			"RELAY_API_KEYS: entries 1 and 2 have the same key"},
		"keys in both ways": {"RELAY_API_KEYS=do-not-show-0123456789;RELAY_API_KEYS_FILE=" + file(t,
			"x"), "RELAY_API_KEYS_FILE: RELAY_API_KEYS is set, too; set only one of them"},
		"an empty file of keys": {"RELAY_API_KEYS_FILE=" + file(t, "\n"),
			"RELAY_API_KEYS_FILE: the file is empty"},
		"a file of keys that is a folder": {"RELAY_API_KEYS_FILE=" + t.TempDir(),
			"RELAY_API_KEYS_FILE: read the file: is a directory"},
		"a secret where its path belongs": {"UPSTREAM_KIND=openai;UPSTREAM_API_KEY_FILE=do-not-show",
			"UPSTREAM_API_KEY_FILE: open the file: no such file or directory"},
		"a file too large for a secret": {"OPENAI_API_KEY_FILE=" + file(t, strings.Repeat("x", 1<<20+1)),
			"OPENAI_API_KEY_FILE: the file is larger than 1MiB"},
		"a provider's key in both ways": {"OPENAI_API_KEY=do-not-show;OPENAI_API_KEY_FILE=" + file(t, "x"),
			"OPENAI_API_KEY_FILE: OPENAI_API_KEY is set, too; set only one of them"},

		"a provider's key with a line end inside": {"UPSTREAM_KIND=openai;UPSTREAM_API_KEY_FILE=" + file(t,
			"do-not\nshow"), "UPSTREAM_API_KEY: " + tokenOnly},
		"an OpenAI key with a space inside": {"OPENAI_API_KEY=do-not show", "OPENAI_API_KEY: " + tokenOnly},

		"a misspelt parameter of Redis": {redis + "redis://h?adr=h2",
			`RELAY_REDIS_URL: has an unknown parameter "adr"; known are ` + parameters},
		"a parameter that has no effect": {
			redis + "redis://h?max_retries=3",
			`RELAY_REDIS_URL: has an unknown parameter "max_retries"; known are ` + parameters,
		},
		"a parameter that is no name": {
			redis + "redis://h?DO-not-show=1",
			"RELAY_REDIS_URL: has an unknown parameter; known are " + parameters,
		},
		"half of a password taken for parameters": {
			redis + "redis://me:do?not-show@h/0",
			"RELAY_REDIS_URL: not a URL " + encoded,
		},
		"a whole password taken for one": {
			redis + "redis://do?show@h",
			"RELAY_REDIS_URL: its parameters can't be read; " + encodedOnly,
		},
		"a password with a per cent": {
			redis + "redis://me:do-not%show@h",
			"RELAY_REDIS_URL: not a URL " + encoded,
		},
		"parameters that can't be read": {
			redis + "redis://h?addr=%zz",
			"RELAY_REDIS_URL: its parameters can't be read; " + encodedOnly,
		},
		"a database that is no number": {
			redis + "redis://h?db=a",
			"RELAY_REDIS_URL: db must be a number",
		},
		"a time-out without a unit": {
			redis + "redis://h?dial_timeout=5",
			"RELAY_REDIS_URL: dial_timeout must be a duration such as 1s",
		},
		"a master twice": {
			redis + "redis://h?master_set=a&master_set=b",
			"RELAY_REDIS_URL: has master_set more than once",
		},
		"no check of no certificate": {
			redis + "redis://h?skip_verify=true",
			"RELAY_REDIS_URL: has skip_verify, but " + noCert,
		},
		"an authority for no certificate": {
			redis + "redis://h;RELAY_REDIS_CA_FILE=" + certFile,
			"RELAY_REDIS_CA_FILE: set, but RELAY_REDIS_URL " + noCert,
		},
		"an authority of Redis that is none": {
			redis + "rediss://h;RELAY_REDIS_CA_FILE=" + keyFile,
			"RELAY_REDIS_CA_FILE: the file has no PEM certificate",
		},
		"a user of no Sentinel": {
			redis + "redis://h;RELAY_REDIS_SENTINEL_USER=do-not-show",
			"RELAY_REDIS_SENTINEL_USER" + noSentinel,
		},
		"a password of no Sentinel": {
			redis + "redis://h;RELAY_REDIS_SENTINEL_PASSWORD=do-not-show",
			"RELAY_REDIS_SENTINEL_PASSWORD" + noSentinel,
		},

		"an unknown kind": {"UPSTREAM_KIND=llama",
			`UPSTREAM_KIND: "llama" is not a kind; ` + allKinds},
		"a base URL without a kind": {"UPSTREAM_BASE_URL=http://localhost:8000",
			"UPSTREAM_KIND: not set, but UPSTREAM_BASE_URL is; " + allKinds},
		"a key without a kind": {goodKey, "UPSTREAM_KIND: not set, but UPSTREAM_API_KEY is; " + allKinds},
		"an identity of no cloud": {"UPSTREAM_AUTH=gcp",
			`UPSTREAM_AUTH: must be one of key, aws, google, azure, not "gcp"`},
		"an identity beside a key": {"UPSTREAM_KIND=openai;UPSTREAM_AUTH=azure;" + goodKey,
			"UPSTREAM_API_KEY: is set, and UPSTREAM_AUTH is azure: requests have one of them"},
		"a scope that is none of Amazon's": {"UPSTREAM_AUTH=aws;UPSTREAM_AUTH_SCOPE=bedrock",
			`UPSTREAM_AUTH_SCOPE: "bedrock" is not region/service, as in eu-west-1/bedrock`},
		"a family for no name": {"UPSTREAM_FAMILY=a=gpt,=claude",
			"UPSTREAM_FAMILY: \"=claude\" is neither a family nor name=family"},
		"a field without a new name": {"UPSTREAM_RENAME_FIELDS=seed",
			"UPSTREAM_RENAME_FIELDS: \"seed\" is not name=other, where other has no dot"},
		"a field moved elsewhere": {"UPSTREAM_RENAME_FIELDS=seed=a.b",
			"UPSTREAM_RENAME_FIELDS: \"seed=a.b\" is not name=other, where other has no dot"},
		"fields that are no object": {"UPSTREAM_ADD_FIELDS=[1]", "UPSTREAM_ADD_FIELDS: is not a JSON object"},
		"OpenAI without a key": {"UPSTREAM_KIND=openai",
			"UPSTREAM_API_KEY: not set, and neither is OPENAI_API_KEY; https://api.openai.com/v1 needs a key"},
		"OpenAI by its URL without a key": {"UPSTREAM_KIND=openai;UPSTREAM_BASE_URL=https://api.openai.com/v1/",
			"UPSTREAM_API_KEY: not set, and neither is OPENAI_API_KEY; https://api.openai.com/v1 needs a key"},
		"azure without a base URL": {"UPSTREAM_KIND=azure;" + goodKey,
			"UPSTREAM_BASE_URL: not set; kind azure needs it"},
		"another relay without a base URL": {"UPSTREAM_KIND=websopy",
			"UPSTREAM_BASE_URL: not set; kind websopy needs it"},
		"a base URL without a scheme":    {"UPSTREAM_KIND=openai;UPSTREAM_BASE_URL=localhost:8000/v1", noURL},
		"a base URL of another scheme":   {"UPSTREAM_KIND=openai;UPSTREAM_BASE_URL=ftp://a.example", noURL},
		"a base URL without a host":      {"UPSTREAM_KIND=openai;UPSTREAM_BASE_URL=http:///v1", noURL},
		"a base URL that does not parse": {"UPSTREAM_KIND=openai;UPSTREAM_BASE_URL=http://[do-not-show", noURL},
		"a base URL with a password": {
			"UPSTREAM_KIND=openai;UPSTREAM_BASE_URL=https://me:do-not-show@a.example", extraURL},
		"a base URL with a query":    {"UPSTREAM_KIND=azure;" + azureURL + "?api-key=do-not-show", extraURL},
		"a base URL with a fragment": {"UPSTREAM_KIND=azure;" + azureURL + "#", extraURL},
		"a default model that is refused": {"UPSTREAM_MODEL=gpt-4;UPSTREAM_MODELS=o3*",
			`UPSTREAM_MODEL: "gpt-4" is not among UPSTREAM_MODELS`},
		"a mapping from nothing": {"UPSTREAM_MODELS=a,=b", `UPSTREAM_MODELS: "=b" ` + noModel},
		"a mapping to nothing":   {"UPSTREAM_MODELS=a=", `UPSTREAM_MODELS: "a=" ` + noModel},
		"a mapping to a pattern": {"UPSTREAM_1_KIND=demo;UPSTREAM_KIND=demo;UPSTREAM_1_MODELS=a*=b*",
			`UPSTREAM_1_MODELS: "a*=b*" ` + noModel},
		"a negative hedge": {"RELAY_HEDGE_AFTER=-1s", "RELAY_HEDGE_AFTER: must not be negative"},
		"a negative cap": {"UPSTREAM_MAX_STREAMS=-1;UPSTREAM_QUEUE=1",
			"UPSTREAM_MAX_STREAMS: must not be negative"},
		"a negative line": {"UPSTREAM_QUEUE=-1", "UPSTREAM_QUEUE: must not be negative"},
		"a negative wait for a place": {"UPSTREAM_QUEUE_TIMEOUT=-1s",
			"UPSTREAM_QUEUE_TIMEOUT: must not be negative"},
		"an authority that is not there": {"UPSTREAM_CA_FILE=" + absent,
			"UPSTREAM_CA_FILE: open the file: no such file or directory"},
		"an authority without certificates": {"UPSTREAM_CA_FILE=" + keyFile,
			"UPSTREAM_CA_FILE: the file has no PEM certificate"},
		"a header without a value":     {"UPSTREAM_HEADERS=a: 1,do-not-show", "UPSTREAM_HEADERS: entry 2 " + noHeader},
		"a header with an empty value": {"UPSTREAM_HEADERS=do-not-show:", "UPSTREAM_HEADERS: entry 1 " + noHeader},
		"a header with a bad name":     {"UPSTREAM_HEADERS=do not show: 1", "UPSTREAM_HEADERS: entry 1 " + noHeader},
		"a header with a bad value": {"UPSTREAM_HEADERS=a: do-not-schön",
			"UPSTREAM_HEADERS: entry 1 has a value with characters other than printable ASCII"},
		"a header that is the relay's": {"UPSTREAM_HEADERS=accept=text/html",
			"UPSTREAM_HEADERS: entry 1 is a header that the relay sets itself"},
		"headers that are commas": {"UPSTREAM_HEADERS=,", "UPSTREAM_HEADERS: has only separators"},
		"a fallback without a kind": {"UPSTREAM_KIND=demo;UPSTREAM_2_MODEL=m",
			"UPSTREAM_2_KIND: not set; " + allKinds},
		"a problem of the eleventh fallback": {"UPSTREAM_KIND=demo;UPSTREAM_11_KIND=demo;UPSTREAM_11_RETRIES=x",
			`UPSTREAM_11_RETRIES: "x" is not a whole number`},
		"a fallback to nothing": {"UPSTREAM_3_KIND=demo",
			"UPSTREAM_KIND: not set, but UPSTREAM_3_KIND is; " + allKinds},
		"a fallback without its key": {"UPSTREAM_KIND=demo;UPSTREAM_1_KIND=openai",
			"UPSTREAM_1_API_KEY: not set, and neither is OPENAI_API_KEY; https://api.openai.com/v1 needs a key"},
		"a key that two upstreams share": {"UPSTREAM_KIND=openai;UPSTREAM_1_KIND=openai;OPENAI_API_KEY_FILE=" + absent,
			"OPENAI_API_KEY_FILE: open the file: no such file or directory"},
		"models that are commas": {"UPSTREAM_MODELS=,", "UPSTREAM_MODELS: has only separators"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := read(strings.Split(tc.environ, ";"))
			require.EqualError(t, err, tc.want)
			require.Nil(t, c)
			require.NotContains(t, err.Error(), "do-not")
			require.NotContains(t, err.Error(), "show")
		})
	}
}

func TestEverythingWrongIsReportedAtOnceAndOncePerCause(t *testing.T) {
	_, err := read([]string{
		"RELAY_WRITE_TIMEOUT=10", "RELAY_MAX_BODY=1M", "RELAY_ADDR=nowhere", "RELAY_API_KEYS_FILE=/absent",
		"RELAY_LOG_LEVEL=x",
		"UPSTREAM_KIND=openai", "UPSTREAM_API_KEY_FILE=/absent", "UPSTREAM_CONNECT_TIMEOUT=5", "UPSTREAM_RETRIES=-2",
	})
	problems, ok := errors.AsType[config.Problems](err)
	require.True(t, ok)
	var names []string
	for _, p := range problems {
		name, _, _ := strings.Cut(p, ":")
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{
		"RELAY_WRITE_TIMEOUT", "RELAY_MAX_BODY", "RELAY_ADDR", "RELAY_API_KEYS_FILE", "RELAY_LOG_LEVEL",
		"UPSTREAM_API_KEY_FILE", "UPSTREAM_CONNECT_TIMEOUT", "UPSTREAM_RETRIES",
	}, names)
	require.Len(t, strings.Split(err.Error(), "\n"), len(names))
}

func TestAProblemIsOneLineWhateverTheValue(t *testing.T) {
	_, err := read([]string{"RELAY_HEARTBEAT=1s\n2s", "RELAY_TLS_CERT=-----BEGIN\ndo-not-show", "RELAY_TLS_KEY=\x00"})
	require.EqualError(t, err, `RELAY_HEARTBEAT: "1s\n2s" is not a duration; use a unit, e.g. 15s
RELAY_TLS_CERT: open the file: no such file or directory
RELAY_TLS_KEY: open the file: invalid argument`)
}

func TestOriginsAreKeptAsBrowsersSendThem(t *testing.T) {
	c := load(t, "RELAY_CORS_ORIGINS=http://localhost:3000,http://a.example:80,https://[::1]:8443,*,"+
		"capacitor://localhost")
	require.Equal(t, []string{"http://localhost:3000", "http://a.example", "https://[::1]:8443", "*",
		"capacitor://localhost"}, c.CORSOrigins)
}
