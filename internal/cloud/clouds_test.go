package cloud

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
)

// server is a fake of a cloud's metadata or token server, and what it does next.
type server struct {
	*httptest.Server
	requests atomic.Int32
	mode     atomic.Value // "", "hang", or "500"
}

func serve(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := new(server)
	s.mode.Store("")
	over := make(chan struct{})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		switch s.mode.Load() {
		case "hang":
			select {
			case <-r.Context().Done():
			case <-over:
			}
		case "500":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			answer(w, r)
		}
	}))
	t.Cleanup(func() {
		close(over)
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// outcome is what Tell was told.
type outcome struct {
	name    string
	expires time.Time
	err     error
}

func tellTo(c chan outcome) Tell {
	return func(name string, expires time.Time, err error) {
		select {
		case c <- outcome{name, expires, err}:
		default: // the test has seen enough
		}
	}
}

const body = `{"messages":[]}`

// ask authorizes a request to an address, and gives its headers.
func ask(t *testing.T, c Credential, address string) (http.Header, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Encoding", "identity")
	began := time.Now()
	err = c.Authorize(t.Context(), r, []byte(body))
	require.Less(t, time.Since(began), firstWait+time.Second) // a busy machine has its second; synctest has it exactly
	return r.Header, err
}

// clouds are fakes of what each cloud has, by a name; each gives tokens with rising numbers.
var clouds = map[string]func(t *testing.T, tell Tell) (*server, Credential){
	"aws, a container's endpoint": func(t *testing.T, tell Tell) (*server, Credential) {
		var n atomic.Int32
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"AccessKeyId":"AKID%d","SecretAccessKey":"secret","Token":"session","Expiration":%q}`,
				n.Add(1), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		})
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", s.URL+"/creds")
		t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		noFiles(t)
		c, err := AWS("https://bedrock-runtime.eu-west-1.amazonaws.com", "", tell)
		require.NoError(t, err)
		return s, c
	},
	"google, the metadata server": func(t *testing.T, tell Tell) (*server, Credential) {
		var n atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Query().Get("scopes") != googleScope {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.Header().Set("Metadata-Flavor", "Google")
			fmt.Fprintf(w, `{"access_token":"ya29.%d","expires_in":3599,"token_type":"Bearer"}`, n.Add(1))
		})
		noFiles(t)
		t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))
		return s, Google("", tell)
	},
	"google, a service account": func(t *testing.T, tell Tell) (*server, Credential) {
		var n atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" ||
				r.FormValue("assertion") == "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token":"ya29.%d","expires_in":3599,"token_type":"Bearer"}`, n.Add(1))
		})
		noFiles(t)
		t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", serviceAccount(t, s.URL))
		return s, Google("", tell)
	},
	"azure, a managed identity": func(t *testing.T, tell Tell) (*server, Credential) {
		var n atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Identity-Header") != "header" ||
				r.URL.Query().Get("resource") != strings.TrimSuffix(azureScope, "/.default") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token":"eyJ.%d","expires_on":"%d","resource":"r","token_type":"Bearer"}`,
				n.Add(1), time.Now().Add(time.Hour).Unix())
		})
		t.Setenv("IDENTITY_ENDPOINT", s.URL)
		t.Setenv("IDENTITY_HEADER", "header")
		for _, name := range []string{"AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_SECRET",
			"AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_ID"} {
			t.Setenv(name, "")
		}
		return s, Azure("", tell)
	},
}

// noFiles hides what the machine has.
func noFiles(t *testing.T) {
	home := t.TempDir()
	for name, value := range map[string]string{"HOME": home, "GOOGLE_APPLICATION_CREDENTIALS": "", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID":     "",
		"AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_ROLE_ARN": "",
		"AWS_CONFIG_FILE": filepath.Join(home, "none"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "none")} {
		t.Setenv(name, value)
	}
}

func serviceAccount(t *testing.T, tokenURL string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	raw, err := json.Marshal(map[string]string{"type": "service_account",
		"client_email": "relay@p.iam.gserviceaccount.com", "private_key_id": "k",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": tokenURL,
		"project_id": "p"})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "account.json")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	return path
}

const bedrockAddress = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/eu.anthropic.claude-v1%3A0/" +
	"converse-stream"

func TestEachCloudsCredentials(t *testing.T) {
	for name, begin := range clouds {
		t.Run(name, func(t *testing.T) {
			told := make(chan outcome, 9)
			s, c := begin(t, tellTo(told))
			t.Cleanup(c.Close)
			first := <-told
			require.NoError(t, first.err)
			// Amazon's SDK takes five minutes off
			require.InDelta(t, time.Hour.Seconds(), time.Until(first.expires).Seconds(), 400)
			cloud, _, _ := strings.Cut(name, ",")
			require.True(t, strings.HasPrefix(first.name, cloud+" "), "%q names the credential", first.name)

			s.mode.Store("hang") // nobody notices: the token is good
			for range 3 {
				h, err := ask(t, c, bedrockAddress)
				require.NoError(t, err)
				require.Regexp(t, `^(Bearer (ya29|eyJ)\.1|AWS4-HMAC-SHA256 Credential=AKID1/.*)$`,
					h.Get("Authorization"))
			}
		})
	}
}

func TestACloudThatGivesNone(t *testing.T) {
	for name, begin := range clouds {
		for _, mode := range []string{"hang", "500"} {
			t.Run(name+", "+mode, func(t *testing.T) {
				told := make(chan outcome, 9)
				s, c := begin(t, tellTo(told))
				<-told
				s.mode.Store(mode)
				c.Close()
				c = again(t, name, tellTo(told))
				defer c.Close()
				_, err := ask(t, c, bedrockAddress)
				require.Error(t, err)
				began := time.Now()
				c.Close()
				require.Less(t, time.Since(began), 5*time.Second, "a relay that stops waits for no cloud")
			})
		}
	}
}

// again makes a credential in the environment that is there.
func again(t *testing.T, name string, tell Tell) Credential {
	t.Helper()
	switch name[:3] {
	case "aws":
		c, err := AWS("https://bedrock-runtime.eu-west-1.amazonaws.com", "", tell)
		require.NoError(t, err)
		return c
	case "goo":
		return Google("", tell)
	}
	return Azure("https://other.example/.default", tell) // the SDK keeps tokens of a resource for the whole process
}

// TestTheSignatureIsTheSDKs: what is signed can be signed by the SDK's signer once more, with the same result.
func TestTheSignatureIsTheSDKs(t *testing.T) {
	told := make(chan outcome, 9)
	_, c := clouds["aws, a container's endpoint"](t, tellTo(told))
	t.Cleanup(c.Close)
	<-told
	h, err := ask(t, c, bedrockAddress)
	require.NoError(t, err)
	require.Equal(t, "session", h.Get("X-Amz-Security-Token"))
	m := regexp.MustCompile(
		`Credential=AKID1/\d{8}/eu-west-1/bedrock/aws4_request, ` +
			`SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token, Signature=`)
	require.Regexp(t, m, h.Get("Authorization"))

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, bedrockAddress, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	at, err := time.Parse("20060102T150405Z", h.Get("X-Amz-Date"))
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(body))
	creds := aws.Credentials{AccessKeyID: "AKID1", SecretAccessKey: "secret", SessionToken: "session"}
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), creds, r, hex.EncodeToString(sum[:]), "bedrock",
		"eu-west-1", at))
	require.Equal(t, r.Header.Get("Authorization"), h.Get("Authorization"))
}

func TestAWSScopes(t *testing.T) {
	for address, want := range map[string]string{
		"https://bedrock-runtime.eu-west-1.amazonaws.com":                 "eu-west-1 bedrock",
		"https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com":        "us-gov-west-1 bedrock",
		"https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1":       "us-east-1 bedrock",
		"https://vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com":     "eu-west-1 bedrock",
		"https://bedrock-mantle.us-east-1.api.aws/anthropic":              "us-east-1 bedrock-mantle",
		"https://gateway.example/bedrock-runtime.eu-west-1.amazonaws.com": "",
		"https://notbedrock-runtime.eu-west-1.amazonaws.com":              "",
		// an address is the operator's own
		"https://bedrock-runtime.eu-west-1.amazonaws.com.attacker.example/": "eu-west-1 bedrock",
		"http://127.0.0.1:8080": "",
	} {
		region, service, _ := awsScope(address)
		require.Equal(t, want, strings.TrimSpace(region+" "+service), address)
	}
	_, err := AWS("http://127.0.0.1:8080", "", func(string, time.Time, error) {})
	require.ErrorContains(t, err, "region/service")
}
