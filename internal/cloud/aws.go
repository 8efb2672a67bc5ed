package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
)

// AWS signs requests to an address with what the default chain of Amazon's SDKs finds: the environment, shared files,
// web identity (IRSA), a container's endpoint (ECS, EKS Pod Identity), or an instance's role. scope is region/service,
// as in eu-west-1/bedrock; "" is read from the address of Bedrock. The error says that it can't be.
func AWS(baseURL, scope string, tell Tell) (Credential, error) {
	region, service, ok := strings.Cut(scope, "/")
	if scope == "" {
		region, service, ok = awsScope(baseURL)
	}
	if !ok || region == "" || service == "" {
		return nil, errors.New("want region/service, as in eu-west-1/bedrock, because the address does not say it")
	}
	fetch := func(ctx context.Context) (fetched[aws.Credentials], error) {
		found := fetched[aws.Credentials]{name: "aws"}
		cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(region))
		if err != nil {
			return found, err
		}
		c, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return found, err
		}
		found.value, found.name = c, "aws "+c.Source
		if c.CanExpire {
			found.expires = c.Expires
		}
		return found, nil
	}
	return &sigV4{kept: keep(fetch, tell), signer: v4.NewSigner(), region: region, service: service}, nil
}

// bedrockHost is the beginning of the address of Bedrock in a region, perhaps by a private endpoint.
var bedrockHost = regexp.MustCompile(`(?:^|\.)bedrock-(runtime|mantle)(?:-fips)?\.([a-z0-9-]+)\.`)

func awsScope(baseURL string) (region, service string, ok bool) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return "", "", false
	}
	m := bedrockHost.FindStringSubmatch(u.Hostname())
	switch {
	case m == nil:
		return "", "", false
	case m[1] == "mantle":
		return m[2], "bedrock-mantle", true
	}
	return m[2], "bedrock", true
}

// sigV4 signs with Amazon's Signature Version 4.
type sigV4 struct {
	*kept[aws.Credentials]
	signer          *v4.Signer
	region, service string
}

// Authorize implements Credential. Of the headers it signs those that say what is asked, and none that a proxy on the
// way may change.
func (s *sigV4) Authorize(ctx context.Context, r *http.Request, body []byte) error {
	c, err := s.get(ctx)
	if err != nil {
		return err
	}
	signed := &http.Request{Method: r.Method, URL: r.URL, Host: r.Host, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": r.Header["Content-Type"]}}
	sum := sha256.Sum256(body)
	if err := s.signer.SignHTTP(ctx, c, signed, hex.EncodeToString(sum[:]), s.service, s.region,
		time.Now()); err != nil {
		return err
	}
	for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token"} {
		if value := signed.Header.Get(name); value != "" {
			r.Header.Set(name, value)
		}
	}
	return nil
}
