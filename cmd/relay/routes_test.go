package main_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

// settingsFile is a file that a relay reads its settings from.
type settingsFile string

func newSettingsFile(t *testing.T, content string) settingsFile {
	t.Helper()
	f := settingsFile(filepath.Join(t.TempDir(), "relay.yaml"))
	f.write(t, content)
	return f
}

// write replaces the file as editors and Kubernetes do: whole.
func (f settingsFile) write(t *testing.T, content string) {
	t.Helper()
	next := string(f) + ".next"
	require.NoError(t, os.WriteFile(next, []byte(content), 0o600))
	require.NoError(t, os.Rename(next, string(f)))
}

const (
	readAgain = "the settings were read again"
	refused   = "the settings have changed and can't be used: those from before hold"
)

// demos is a file with two demo upstreams and a model of each.
const demos = `upstreams:
- {name: a, kind: demo}
- {name: b, kind: demo}
models:
  fast: [{upstream: a, model: demo-fast}]
  long: [{upstream: b, model: demo}]
default_model: fast
`

func models(t *testing.T, p *relaytest.Relay) (ids []string) {
	t.Helper()
	var list struct{ Data []struct{ ID string } }
	require.NoError(t, json.Unmarshal([]byte(relaytest.Body(t, p.Ask(t, "/v1/models", ""))), &list))
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids
}

func TestAFileSaysWhoAnswersWhat(t *testing.T) {
	p := relaytest.Serve(t, "RELAY_CONFIG="+string(newSettingsFile(t, demos)))
	require.Equal(t, []string{"fast", "long"}, models(t, p))
	_, last := read(t, p.Ask(t, "/api/chat/stream", `{"messages":[{"role":"user","content":"Hi"}]}`), true)
	require.Equal(t, "done", last.Type)
	require.Equal(t, "a", p.Wait(t, "stream")["upstream"])
	res := p.Ask(t, "/api/chat/stream", `{"model":"demo-fast","messages":[{"role":"user","content":"Hi"}]}`)
	require.Equal(t, http.StatusForbidden, res.StatusCode, "the upstream's name is the upstream's")
}

func TestSettingsAreReadAgainWholeOrNotAtAll(t *testing.T) {
	f := newSettingsFile(t, demos)
	p := relaytest.Serve(t, "RELAY_CONFIG="+string(f))
	hangUp := func() { p.Signal(t, syscall.SIGHUP) }

	running := p.Ask(t, "/api/chat/stream", `{"model":"long","messages":[{"role":"user","content":"Hi"}]}`)
	f.write(t, strings.ReplaceAll(demos, "long", "other"))
	hangUp()
	p.WaitN(t, readAgain, 1)
	require.Equal(t, []string{"fast", "other"}, models(t, p))
	require.Equal(t, http.StatusForbidden,
		p.Ask(t, "/api/chat/stream", `{"model":"long","messages":[{"role":"user","content":"Hi"}]}`).StatusCode)

	f.write(t, demos+"  heartbeat: x\n")
	hangUp()
	problem := p.WaitN(t, refused, 1)["problems"]
	require.Contains(t, fmt.Sprint(problem), "relay.yaml:")
	require.Equal(t, []string{"fast", "other"}, models(t, p))

	f.write(t, demos+"heartbeat: 7s\n")
	hangUp()
	require.Equal(t, []any{"relay.yaml:8: heartbeat: has changed, which takes a restart"},
		p.WaitN(t, refused, 2)["problems"])
	require.Contains(t, samples(t, p, "relay_config_reloads_total"), `relay_config_reloads_total{outcome="refused"} 2`)

	_, last := read(t, running, true)
	require.Equal(t, "done", last.Type, "what runs goes on, with what it began with")
}

// The authority of a provider in the house is replaced under the same name, as its key would be.
func TestAFileOfAuthoritiesIsReadAgain(t *testing.T) {
	provider := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"message":"it came"}}`)
	}))
	provider.Config.ErrorLog = log.New(io.Discard, "", 0)
	provider.StartTLS()
	defer provider.Close()
	authorities, _, _ := certificate(t) // of somebody else
	p := relaytest.Serve(t, "RELAY_CONFIG="+string(newSettingsFile(t, "upstreams:\n- {name: house, kind: openai, "+
		"base_url: '"+provider.URL+"', model: m, retries: 0, ca_file: "+authorities+"}\n")))
	code := func() string {
		_, last := read(t, p.Ask(t, "/api/chat/stream", question), false)
		return last.Code
	}
	require.Equal(t, "upstream_unreachable", code())
	require.NoError(t, os.WriteFile(authorities,
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw}), 0o600))
	p.Signal(t, syscall.SIGHUP)
	p.WaitN(t, readAgain, 1)
	require.Equal(t, "upstream_rejected", code())
}

func TestAChangeOfTheFileIsSeen(t *testing.T) {
	f := newSettingsFile(t, demos)
	p := relaytest.Serve(t, "RELAY_CONFIG="+string(f))
	f.write(t, strings.ReplaceAll(demos, "long", "seen"))
	p.WaitN(t, readAgain, 1)
	require.Equal(t, []string{"fast", "seen"}, models(t, p))
}

// A Redis that takes connections and says nothing keeps a relay from being ready for a moment. Whoever changes the file
// meanwhile, and tells the relay so, is heard all the same.
func TestAChangeWhileTheRelayStartsIsSeen(t *testing.T) {
	for _, tell := range []bool{true, false} {
		f := newSettingsFile(t, demos)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { ln.Close() })
		changed := make(chan int, 1) // the relay's number
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			f.write(t, strings.ReplaceAll(demos, "long", "seen"))
			if pid := <-changed; tell {
				_ = syscall.Kill(pid, syscall.SIGHUP)
			}
			_, _ = io.Copy(io.Discard, conn)
		}()
		cmd := exec.Command(relaytest.Binary(t))
		cmd.Env = []string{"RELAY_CONFIG=" + string(f), "RELAY_ADDR=127.0.0.1:0", "RELAY_ADMIN_ADDR=",
			"RELAY_LOG_FORMAT=json", "RELAY_REDIS_URL=redis://" + ln.Addr().String()}
		p := &relaytest.Relay{Program: relaytest.Start(t, cmd)}
		changed <- p.Pid()
		p.WaitN(t, readAgain, 1)
		p.Stop(t)
	}
}

// A relay that drains is not killed by who wants its settings read, and one that has no file drains.
func TestAHangUpCutsNothing(t *testing.T) {
	for _, settings := range [][]string{
		{"RELAY_CONFIG=" + string(newSettingsFile(t, "addr: 127.0.0.1:0\n"))}, {},
	} {
		p := relaytest.Serve(t, append(settings, "RELAY_SHUTDOWN_GRACE=60s")...)
		running := begin(t, p, "demo")
		if len(settings) > 0 {
			p.Signal(t, syscall.SIGTERM)
			p.Wait(t, "draining")
		}
		p.Signal(t, syscall.SIGHUP)
		p.Wait(t, "draining")
		_, last := read(t, running, true)
		require.Equal(t, "done", last.Type)
		require.Zero(t, p.Exit(t))
	}
}

// Providers come and go while requests are answered: none of them is lost, and none goes to who is gone.
func TestReloadUnderLoad(t *testing.T) {
	a, b := faulty(t, "openai", upstreamtest.Fault{What: upstreamtest.None}), faulty(t, "openai",
		upstreamtest.Fault{What: upstreamtest.None})
	content := func(urls ...string) string {
		text, tier := "upstreams:\n", "models:\n  m:\n  - "
		for i, url := range urls {
			text += fmt.Sprintf("- {name: u%d, kind: openai, base_url: %s, api_key: sk-%s}\n", i, url,
				strings.Repeat("1", 20))
			tier += fmt.Sprintf("%s{upstream: u%d}", map[bool]string{true: "[", false: ", "}[i == 0], i)
		}
		return text + tier + "]\n"
	}
	f := newSettingsFile(t, content(a.URL))
	p := relaytest.Serve(t, "RELAY_CONFIG="+string(f))

	stop := make(chan struct{})
	var answered, failed atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := p.Client.Post(p.URL+"/api/chat/stream", "application/json",
					strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"Hi"}]}`))
				if err != nil {
					failed.Add(1)
					continue
				}
				if _, last := read(t, res, true); last.Type == "done" {
					answered.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	const times = 20
	for i := range times {
		switch i % 3 {
		case 0:
			f.write(t, content(a.URL, b.URL))
		case 1:
			f.write(t, content(b.URL))
		case 2:
			f.write(t, content(b.URL, a.URL))
		}
		p.Signal(t, syscall.SIGHUP)
		p.WaitN(t, readAgain, i+1)
	}
	close(stop)
	clients.Wait()
	require.Zero(t, failed.Load())
	require.NotZero(t, answered.Load())
}

func TestCheckSaysWhoWouldAnswer(t *testing.T) {
	f := newSettingsFile(t, `upstreams:
- {name: openai, kind: openai, api_key: sk-do-not-show}
- {name: eu, kind: openai, base_url: "https://eu.example.com/v1"}
- {name: local, kind: ollama}
models:
  smart: [[{upstream: openai, model: gpt-6, weight: 3}, {upstream: eu}], {upstream: local, model: llama}]
  gpt-*: [{upstream: eu}]
default_model: smart
`)
	code, stdout, stderr := relaytest.Run(t, []string{"RELAY_CONFIG=" + string(f)}, "check")
	require.Zero(t, code, stderr)
	require.Equal(t, `The settings can be used.
upstream openai: openai, https://api.openai.com/v1
upstream eu: openai, https://eu.example.com/v1
upstream local: ollama, http://localhost:11434

no model (smart)
  1. openai as gpt-6 (75 %), eu (25 %)
  2. local as llama

smart
  1. openai as gpt-6 (75 %), eu (25 %)
  2. local as llama

gpt-*
  1. eu
`, stdout)

	code, stdout, _ = relaytest.Run(t, []string{"UPSTREAM_KIND=demo", "UPSTREAM_1_KIND=demo",
		"UPSTREAM_1_MODEL=demo-fast"}, "check")
	require.Zero(t, code)
	require.Equal(t, `The settings can be used.
upstream demo: demo, in this process
upstream demo-1: demo, in this process

no model
  1. demo
  2. demo-1 as demo-fast

any other model
  1. demo
  2. demo-1 as demo-fast
`, stdout)

	code, _, stderr = relaytest.Run(t, []string{"RELAY_CONFIG=/absent.yaml"}, "check")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "RELAY_CONFIG: open the file: no such file or directory")
}
