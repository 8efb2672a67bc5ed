package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// googleScope is what tokens are for, unless the operator says otherwise. External accounts fail without one.
const googleScope = "https://www.googleapis.com/auth/cloud-platform"

// Google shows tokens of Google's application default credentials: a file that GOOGLE_APPLICATION_CREDENTIALS or
// gcloud names (a service account, workload identity federation), or the metadata server's. scope may be empty.
func Google(scope string, tell Tell) Credential {
	if scope == "" {
		scope = googleScope
	}
	return bearer{keep(func(ctx context.Context) (fetched[string], error) {
		if hasGoogleFile() {
			return googleFile(ctx, scope)
		}
		return googleMetadata(ctx, scope)
	}, tell)}
}

// hasGoogleFile reports whether there is a file of credentials. Without one google.FindDefaultCredentials asks the
// metadata server, in a way that no context ends.
func hasGoogleFile() bool {
	if os.Getenv("GOOGLE_APPLICATION_CREDENTIALS") != "" {
		return true
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(home, ".config", "gcloud", "application_default_credentials.json"))
	return err == nil
}

func googleFile(ctx context.Context, scope string) (fetched[string], error) {
	found := fetched[string]{name: "google credentials file"}
	client := &http.Client{Transport: bound{ctx}} // Token takes no context
	c, err := google.FindDefaultCredentials(context.WithValue(ctx, oauth2.HTTPClient, client), scope)
	if err != nil {
		return found, err
	}
	token, err := c.TokenSource.Token()
	if err != nil {
		return found, err
	}
	found.value, found.expires = token.AccessToken, token.Expiry
	return found, nil
}

// googleMetadata asks the metadata server of the machine, or of the pod.
// https://cloud.google.com/compute/docs/access/authenticate-workloads
func googleMetadata(ctx context.Context, scope string) (fetched[string], error) {
	found := fetched[string]{name: "google metadata server"}
	raw, err := metadata.GetWithContext(ctx, "instance/service-accounts/default/token?scopes="+url.QueryEscape(scope))
	if err != nil {
		return found, err
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(raw), &token); err != nil {
		return found, err
	}
	if token.AccessToken == "" || token.ExpiresIn <= 0 {
		return found, errors.New("its answer has no token")
	}
	found.value, found.expires = token.AccessToken, time.Now().Add(time.Duration(token.ExpiresIn)*time.Second)
	return found, nil
}

// bound is a transport whose requests end with a context.
type bound struct{ ctx context.Context }

// RoundTrip implements http.RoundTripper.
func (b bound) RoundTrip(r *http.Request) (*http.Response, error) {
	return http.DefaultTransport.RoundTrip(r.WithContext(b.ctx))
}
