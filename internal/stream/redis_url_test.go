package stream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/relaytest"
)

// serves checks that two replicas share streams at url.
func serves(t *testing.T, url string) {
	t.Helper()
	servesWith(t, redisconn.Options{URL: url})
}

func servesWith(t *testing.T, redis redisconn.Options) {
	t.Helper()
	a, b := openWith(t, options(), redis), openWith(t, options(), redis)
	away(t, a, false)
	away(t, b, false)
	f := start(t, a, words(10))
	require.Equal(t, wordsText(0, 10), read(t, f).text)
	r := read(t, attach(t, b, f.ID(), 0))
	require.NoError(t, r.err)
	require.Equal(t, wordsText(0, 10), r.text)
	f = start(t, a, newProvider().produce)
	require.NoError(t, b.Stop(background(t), "me", f.ID()))
	require.Equal(t, chat.FinishStopped, read(t, f).done.FinishReason)
}

func TestRedisOverTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	_, port, _ := net.SplitHostPort(relaytest.FreeAddr(t))
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	url := "rediss://127.0.0.1:" + port
	serves(t, url+"?skip_verify=true")
	away(t, open(t, options(), url), true)
	o := redisconn.Options{URL: url, RootCAs: x509.NewCertPool()}
	pem, err := os.ReadFile(cert)
	require.NoError(t, err)
	require.True(t, o.RootCAs.AppendCertsFromPEM(pem))
	servesWith(t, o)
}

func TestRedisOnASocket(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	redistest.Start(t, "--unixsocket", socket)
	serves(t, "unix://"+socket+"?db=3")
}

// The rules are those of docs/resume.md, so that they can be copied from there.
func TestRedisWithTheDocumentedACLAndNoMore(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/resume.md")
	require.NoError(t, err)
	rules := strings.Fields(regexp.MustCompile(`(?m)^resetchannels .*$`).FindString(string(doc)))
	require.NotEmpty(t, rules)
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		s := k.Start(t, "--maxmemory-policy", "allkeys-lru")
		require.Equal(t, "OK", s.Do(append([]string{"ACL", "SETUSER", "relay", "on", ">p4ss"}, rules...)...))
		require.Equal(t, "OK", s.Do("ACL", "SETUSER", "default", "nopass", "-@all", "+ping"))
		url := "redis://relay:p4ss@" + s.Addr
		serves(t, url)
		require.Equal(t, "allkeys-lru", <-policyAt(t, url))
	})
}

// policyAt gives what is told of the policy of the Redis at url.
func policyAt(t *testing.T, url string) <-chan string {
	told := make(chan string, 1)
	o := redisconn.Options{URL: url, Evicts: func(policy string) { told <- policy }}
	away(t, openWith(t, options(), o), false)
	return told
}

func TestARedisThatKeepsItsStreamsOrDoesNotSayIsNotWarnedOf(t *testing.T) {
	t.Parallel()
	keeps := policyAt(t, redistest.Start(t, "--maxmemory-policy", "noeviction").URL())
	mute := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	require.Equal(t, "OK", mute.Do("ACL", "SETUSER", "default", "-info"))
	silent := policyAt(t, mute.URL())
	node := redistest.Start(t, "--cluster-enabled", "yes", "--maxmemory-policy", "volatile-ttl")
	require.Equal(t, "OK", node.Do("CLUSTER", "ADDSLOTSRANGE", "0", "16383"))
	select {
	case policy := <-policyAt(t, node.URL()): // by then the others would have told, too
		require.Equal(t, "volatile-ttl", policy)
	case <-time.After(patience):
		require.Fail(t, "a Cluster says nothing")
	}
	require.Empty(t, keeps)
	require.Empty(t, silent)
}

func TestRedisBehindASentinel(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	require.Equal(t, "OK", s.Do("ACL", "SETUSER", "relay", "on", ">of-redis", "~*", "&*", "+@all"))
	require.Equal(t, "OK", s.Do("ACL", "SETUSER", "default", "-@all", "+ping"))
	_, port, _ := net.SplitHostPort(s.Addr)
	conf := filepath.Join(t.TempDir(), "sentinel.conf") // it writes to it
	require.NoError(t, os.WriteFile(conf, []byte("sentinel monitor main 127.0.0.1 "+port+" 1\n"+
		"sentinel auth-user main relay\nsentinel auth-pass main of-redis\n"), 0o600))
	sentinel := redistest.StartSentinel(t, conf)
	require.Equal(t, "OK", sentinel.Do("ACL", "SETUSER", "watcher", "on", ">of-sentinel", "allchannels", "+@all"))
	require.Equal(t, "OK", sentinel.Do("ACL", "SETUSER", "default", "-@all", "+ping"))
	servesWith(t, redisconn.Options{
		URL:          "redis://relay:of-redis@" + sentinel.Addr + "?master_set=main",
		SentinelUser: "watcher", SentinelPassword: "of-sentinel",
	})
}

// certificate gives the files of a certificate that nobody knows and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, typ string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), 0o600))
		return path
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", der)
}
