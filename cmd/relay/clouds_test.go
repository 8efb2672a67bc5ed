package main_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

// TestARelayThatHasNoKey has credentials of a container at AWS, which live shortly: each request is signed with those
// of the moment, and an answer goes on when those that it was asked with have expired.
func TestARelayThatHasNoKey(t *testing.T) {
	var given atomic.Int32
	broken := make(chan struct{})
	container := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-broken:
			w.WriteHeader(http.StatusForbidden) // which the SDK does not try again
			return
		default:
		}
		life := 5*time.Minute + 2*time.Second // five minutes before their end the SDK takes them for expired
		fmt.Fprintf(w, `{"AccessKeyId":"AKID%d","SecretAccessKey":"secret","Token":"session","Expiration":%q}`,
			given.Add(1), time.Now().Add(life).UTC().Format(time.RFC3339Nano))
	}))
	defer container.Close()

	asked := make(chan string, 9)
	proceed := make(chan struct{})
	word := func(w http.ResponseWriter, text string) {
		_, _ = io.WriteString(w, upstreamtest.AWSEvent("contentBlockDelta",
			`{"contentBlockIndex":0,"delta":{"text":"`+text+`"},"p":"abc"}`))
		_ = http.NewResponseController(w).Flush()
	}
	bedrock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- r.Header.Get("Authorization") + " " + r.RequestURI
		w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
		word(w, "Hel")
		<-proceed
		word(w, "lo")
		_, _ = io.WriteString(w, upstreamtest.AWSEvent("messageStop", `{"stopReason":"end_turn"}`))
	}))
	defer bedrock.Close()
	p := relaytest.Serve(t, "UPSTREAM_KIND=bedrock", "UPSTREAM_BASE_URL="+bedrock.URL,
		"UPSTREAM_MODEL=eu.amazon.nova-2-lite-v1:0", "UPSTREAM_RETRIES=0",
		"UPSTREAM_AUTH=aws", "UPSTREAM_AUTH_SCOPE=eu-west-1/bedrock",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI="+container.URL,
		"AWS_EC2_METADATA_DISABLED=true", "HOME="+t.TempDir())
	line := p.Wait(t, "credential for the provider")
	require.Equal(t, "aws CredentialsEndpointProvider", line["credential"])

	const question = `{"messages":[{"role":"user","content":"Hello"}]}`
	res := p.Ask(t, "/api/chat/stream", question)
	require.Regexp(t, `^AWS4-HMAC-SHA256 Credential=AKID\d+/\d{8}/eu-west-1/bedrock/aws4_request, .* `+
		`/model/eu\.amazon\.nova-2-lite-v1%3A0/converse-stream$`, <-asked)
	before := given.Load()
	require.Eventually(t, func() bool { return given.Load() > before+1 }, relaytest.Patience, 50*time.Millisecond,
		"they are replaced in time")
	close(broken)
	line = p.Wait(t, "no credential for the provider; requests to it fail once the last one has expired")
	require.Equal(t, "error", line["level"])
	require.Contains(t, line["error"], "aws: ")
	close(proceed)
	text, last := read(t, res, true)
	require.Equal(t, "Hello", text)
	require.Equal(t, "done", last.Type, "what has begun needs them no more")

	for end := time.Now().Add(relaytest.Patience); ; { // until the last ones have expired
		began := time.Now()
		answer := relaytest.Body(t, p.Ask(t, "/api/chat/stream", question))
		if strings.Contains(answer, `"code":"upstream_auth"`) {
			require.Less(t, time.Since(began), 5*time.Second)
			break
		}
		require.Contains(t, answer, `"type":"done"`)
		require.True(t, time.Now().Before(end))
		<-asked
	}
	p.Signal(t, syscall.SIGTERM)
	require.Zero(t, p.Exit(t))
}

// TestACloudThatHangs keeps neither requests nor the end of the relay waiting, and another upstream answers.
func TestACloudThatHangs(t *testing.T) {
	hang := make(chan struct{})
	metadata := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-hang:
		}
	}))
	defer metadata.Close()
	defer close(hang)
	for auth, environ := range map[string][]string{
		"google": {"GCE_METADATA_HOST=" + strings.TrimPrefix(metadata.URL, "http://")},
		"azure":  {"IDENTITY_ENDPOINT=" + metadata.URL, "IDENTITY_HEADER=h"},
		"aws":    {"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + metadata.URL, "UPSTREAM_AUTH_SCOPE=eu-west-1/bedrock"},
	} {
		t.Run(auth, func(t *testing.T) {
			p := relaytest.Serve(t, append(environ, "HOME="+t.TempDir(), "UPSTREAM_KIND=openai",
				"UPSTREAM_BASE_URL="+metadata.URL, "UPSTREAM_MODEL=m", "UPSTREAM_AUTH="+auth,
				"UPSTREAM_1_KIND=demo", "UPSTREAM_1_MODEL=demo-fast")...)
			for range 3 {
				began := time.Now()
				_, last := read(t, p.Ask(t, "/api/chat/stream", `{"messages":[{"role":"user","content":"Hello"}]}`),
					true)
				require.Equal(t, "done", last.Type)
				require.Less(t, time.Since(began), 5*time.Second) // of which the wait for a token is 100 ms at most
			}
			line := p.Wait(t, "stream")
			require.Equal(t, []any{"openai upstream_auth", "demo-1 ok"}, line["tried"])
			p.Signal(t, syscall.SIGTERM)
			require.Zero(t, p.Exit(t))
		})
	}
}
