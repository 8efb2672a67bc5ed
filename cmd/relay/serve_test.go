package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

const question = `{"messages":[{"role":"user","content":"Hello"}],"model":"demo-fast"}`

func TestWithoutSettingsTheDemoAnswers(t *testing.T) {
	p := relaytest.Serve(t)
	require.Equal(t, "demo", p.Wait(t, "listening")["upstream"])

	t.Run("a fetch reader of GET parses each data line", func(t *testing.T) {
		res := p.Ask(t, "/v1/ai/chat?message=Hello&model=demo-fast", "")
		require.Equal(t, http.StatusOK, res.StatusCode)
		text, last := read(t, res, false)
		require.True(t, strings.HasPrefix(text, "You asked: “Hello”"), text)
		require.Equal(t, "done", last.Type)
	})
	t.Run("POST with a key that nobody asked for", func(t *testing.T) {
		res := p.Ask(t, "/v1/ai/chat/stream", question, "Authorization", "Bearer wsp_123")
		require.Equal(t, http.StatusOK, res.StatusCode)
		text, last := read(t, res, true)
		require.True(t, strings.HasPrefix(text, "You asked: “Hello”"), text)
		require.Equal(t, "stop", last.FinishReason)
		require.Positive(t, last.Usage.PromptTokens)
		require.Positive(t, last.Usage.CompletionTokens)
	})
	t.Run("an error half-way", func(t *testing.T) {
		text, last := read(t, p.Ask(t, "/api/chat/stream", strings.Replace(question, "demo-fast", "demo-error", 1)),
			false)
		require.NotEmpty(t, text)
		require.Equal(t, "error", last.Type)
		require.Equal(t, "upstream_error", last.Code)
	})
	t.Run("metrics are on the admin address only", func(t *testing.T) {
		require.Equal(t, http.StatusNotFound, p.Status(t, "/metrics"))
		require.Equal(t, http.StatusNotFound, p.Status(t, "/debug/pprof/"))
		metrics := p.Metrics(t)
		require.Contains(t, metrics, `relay_streams_ended_total{reason="upstream_error"} 1`)
		require.Contains(t, metrics, "go_goroutines")
	})
	t.Run("a signal ends it", func(t *testing.T) {
		p.Signal(t, syscall.SIGTERM)
		require.Equal(t, 0, p.Exit(t))
	})
}

func TestAProviderAndKeys(t *testing.T) {
	asked := make(chan *http.Request, 1)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		asked <- req
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}`+
			"\n\ndata: [DONE]\n\n")
	}))
	defer provider.Close()
	p := relaytest.Serve(t, "OPENAI_API_KEY=sk-provider", "UPSTREAM_BASE_URL="+provider.URL+"/v1",
		"RELAY_API_KEYS=shop:k-shop", "UPSTREAM_MODELS=gpt-*", "RELAY_LOG_LEVEL=debug")
	ask := strings.Replace(question, "demo-fast", "gpt-9", 1)

	require.Equal(t, http.StatusUnauthorized, p.Ask(t, "/api/chat/stream", ask).StatusCode)
	require.Equal(t, http.StatusForbidden, p.Ask(t, "/api/chat/stream", question, "Authorization",
		"Bearer k-shop").StatusCode)
	text, _ := read(t, p.Ask(t, "/api/chat/stream", ask, "Authorization", "Bearer k-shop"), true)
	require.Equal(t, "Hi", text)
	req := <-asked
	require.Equal(t, "/v1/chat/completions", req.URL.Path)
	require.Equal(t, "Bearer sk-provider", req.Header.Get("Authorization"))
	require.Equal(t, "shop", p.Wait(t, "stream")["caller"])
	p.Signal(t, syscall.SIGTERM)
	require.Equal(t, 0, p.Exit(t))
	require.NotContains(t, p.Log(), "sk-provider")
	require.NotContains(t, p.Log(), "k-shop")
}

func TestHTTP2WithoutTLS(t *testing.T) {
	p := relaytest.Serve(t)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	p.Client = &http.Client{Transport: transport}
	res := p.Ask(t, "/api/chat/stream", question)
	require.Equal(t, "HTTP/2.0", res.Proto)
	_, last := read(t, res, true)
	require.Equal(t, "done", last.Type)
}

func TestTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	p := relaytest.Serve(t, "RELAY_TLS_CERT="+cert, "RELAY_TLS_KEY="+key)
	require.True(t, strings.HasPrefix(p.URL, "https://"))
	for _, http2 := range []bool{true, false} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(!http2)
		transport.Protocols.SetHTTP2(http2)
		defer transport.CloseIdleConnections()
		p.Client = &http.Client{Transport: transport}
		res := p.Ask(t, "/api/chat/stream", question)
		require.Equal(t, http2, res.ProtoMajor == 2)
		_, last := read(t, res, true)
		require.Equal(t, "done", last.Type)
	}
	code, _, stderr := relaytest.Run(t, []string{"RELAY_ADDR=" + strings.TrimPrefix(p.URL, "https://"),
		"RELAY_TLS_CERT=" + cert, "RELAY_TLS_KEY=" + key}, "healthcheck")
	require.Zero(t, code, stderr)
}

// certificate makes a certificate for 127.0.0.1, and perhaps names, that signs itself.
func certificate(t *testing.T, names ...string) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certPEM))
	return certFile, keyFile, pool
}

func TestHealthcheck(t *testing.T) {
	p := relaytest.Serve(t)
	setting := []string{"RELAY_ADDR=" + strings.TrimPrefix(p.URL, "http://")}
	code, _, stderr := relaytest.Run(t, setting, "healthcheck")
	require.Zero(t, code, stderr)
	p.Signal(t, syscall.SIGTERM)
	p.Exit(t)
	code, _, stderr = relaytest.Run(t, setting, "healthcheck")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "relay: ")
}

func TestCommandLine(t *testing.T) {
	for name, tc := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string // contained
	}{
		"help lists the settings":    {[]string{"--help"}, 0, "RELAY_WRITE_TIMEOUT", ""},
		"help in short":              {[]string{"-h"}, 0, "relay healthcheck", ""},
		"the version":                {[]string{"--version"}, 0, "relay ", ""},
		"an unknown command":         {[]string{"server"}, 2, "", `unknown command "server"`},
		"an argument too many":       {[]string{"healthcheck", "now"}, 2, "", `unexpected argument "now"`},
		"help needs no good setting": {[]string{"--help"}, 0, "UPSTREAM_KIND", ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := relaytest.Run(t, []string{"RELAY_HEARTBEAT=often"}, tc.args...)
			require.Equal(t, tc.code, code)
			require.Contains(t, stdout, tc.stdout)
			require.Contains(t, stderr, tc.stderr)
		})
	}
}

func TestEveryProblemOfTheSettingsIsReportedAtOnce(t *testing.T) {
	for _, command := range [][]string{nil, {"healthcheck"}} {
		code, stdout, stderr := relaytest.Run(t, []string{"RELAY_HEARTBEAT=often", "RELAY_MAX_BODY=0",
			"UPSTREAM_KIND=telepathy", "RELAY_TLS_CERT=/nowhere", "UPSTREAM_RETRIES=-1"}, command...)
		require.Equal(t, 2, code)
		require.Empty(t, stdout)
		for _, name := range []string{"RELAY_HEARTBEAT", "RELAY_MAX_BODY", "UPSTREAM_KIND", "RELAY_TLS_KEY",
			"UPSTREAM_RETRIES"} {
			require.Contains(t, stderr, "\n"+name+": ")
		}
	}
}

func TestAnAddressInUseIsNamedByItsSetting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for name, settings := range map[string][]string{
		"RELAY_ADDR":       {"RELAY_ADDR=" + l.Addr().String(), "RELAY_ADMIN_ADDR="},
		"RELAY_ADMIN_ADDR": {"RELAY_ADDR=127.0.0.1:0", "RELAY_ADMIN_ADDR=" + l.Addr().String()},
	} {
		code, _, stderr := relaytest.Run(t, settings)
		require.Equal(t, 1, code)
		require.Contains(t, stderr, "relay: "+name+": ")
		require.Contains(t, stderr, "address already in use")
	}
}

func TestTheCertificatesNamesAreTheRelays(t *testing.T) {
	cert, key, pool := certificate(t, "chat.example.com")
	p := relaytest.Serve(t, "RELAY_TLS_CERT="+cert, "RELAY_TLS_KEY="+key)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	p.Client = &http.Client{Transport: transport}
	for host, status := range map[string]int{"chat.example.com": 200, "evil.example": 403} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			p.URL+"/v1/ai/chat?message=Hello&model=demo-fast", nil)
		require.NoError(t, err)
		req.Host = host
		res, err := p.Client.Do(req)
		require.NoError(t, err)
		relaytest.Body(t, res)
		require.Equal(t, status, res.StatusCode, host)
	}
}
