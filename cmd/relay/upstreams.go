package main

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/format"
	"github.com/websopy/relay/internal/upstream/provider"
)

// kinds are what an upstream can be. What a kind is stands in package provider alone.
var kinds = func() (all config.Kinds) {
	for _, k := range provider.Kinds() {
		all = append(all, config.Kind(k))
	}
	return all
}()

// providerOptions say what an upstream is.
func providerOptions(u config.Upstream) (provider.Options, error) {
	o := provider.Options{
		Name: u.Name, Kind: u.Kind, BaseURL: u.BaseURL, APIKey: u.APIKey.Reveal(), APIVersion: u.APIVersion,
		Model:          u.Model,
		ConnectTimeout: u.ConnectTimeout, FirstChunkTimeout: u.FirstChunkTimeout, IdleTimeout: u.IdleTimeout,
		ThinkingTimeout: u.ThinkingTimeout,
		Headers:         make(http.Header),
		NoStreamUsage:   !u.StreamUsage, ThinkTags: u.ThinkTags, Edits: editsOf(u),
	}
	for _, f := range u.Families() {
		if !format.KnowsFamily(f.Family) {
			return o, fmt.Errorf("FAMILY of %s: %q is neither a family, a provider, a model of a family, nor none",
				u.Name, f.Family)
		}
		o.Families = append(o.Families, format.Family{Match: f.Match, Name: f.Family})
	}
	for _, h := range u.Headers {
		o.Headers.Add(h.Name, h.Value.Reveal())
	}
	if u.CAFile != "" {
		var err error
		if o.RootCAs, err = trust(u.CAFile); err != nil {
			return o, fmt.Errorf("CA_FILE of %s: %w", u.Name, err)
		}
	}
	return o, nil
}

func newProvider(u config.Upstream, o provider.Options) (chat.Streamer, error) {
	provider, err := provider.New(o)
	if err != nil || u.MaxStreams == 0 {
		return provider, err
	}
	return upstream.NewLimit(provider, u.MaxStreams, u.Queue, u.QueueTimeout), nil
}

// editsOf are the operator's changes to requests.
func editsOf(u config.Upstream) *provider.Edits {
	edits := &provider.Edits{Drop: u.DropFields, Rename: make(map[string]string), Add: []byte(u.AddFields)}
	for _, entry := range u.RenameFields {
		from, to, _ := strings.Cut(entry, "=")
		edits.Rename[from] = to
	}
	return edits
}

// trust returns the system's certificates and those of a file.
func trust(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a container without any
	}
	pool.AppendCertsFromPEM(pem)
	return pool, nil
}

// upstreamSecrets are what of the upstreams must not appear in logs. Short values of headers are no
// credentials, and would blot out whatever has the same letters.
func upstreamSecrets(cfg *config.Config) []string {
	const shortest = 8
	var secrets []string
	for _, u := range cfg.Upstreams {
		if key := u.APIKey.Reveal(); !isDummy(key, u.BaseURL) {
			secrets = append(secrets, key)
		}
		for _, h := range u.Headers {
			value := h.Value.Reveal()
			if _, credential, ok := strings.Cut(value, " "); ok { // Bearer …, Basic …
				value = credential
			}
			if len(value) >= shortest {
				secrets = append(secrets, value)
			}
		}
	}
	return secrets
}

// dummies are keys that people give to servers of their own, which want one and don't look at it.
var dummies = regexp.MustCompile(`(?i)^(sk-)?(none?|not?[-_ ]?(key|needed|required|used)([-_]required)?|null|dummy|` +
	`fake|empty|ollama|lm-?studio|local|` +
	`placeholder|unused|anything|secret|key|token|test|x+)$`)

// isDummy reports whether a key is no secret: blotted out, it would only make messages hard to read.
func isDummy(key, baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil || !dummies.MatchString(key) {
		return false
	}
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	isLocal := err == nil && (addr.IsLoopback() || addr.IsPrivate())
	return isLocal || err != nil && (!strings.Contains(host, ".") || strings.HasSuffix(host, ".local") ||
		strings.HasSuffix(host, ".internal"))
}
