package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// fetch gets the keys from where the options say.
func (k *KeySet) fetch(ctx context.Context) ([]publicKey, error) {
	source := k.o.Source
	if source == "" {
		var err error
		if source, err = k.discover(ctx); err != nil {
			return nil, err
		}
	}
	document, err := k.read(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("the key set: %w", err)
	}
	keys, err := parseKeySet(document)
	if err != nil {
		return nil, fmt.Errorf("the key set: %w", err)
	}
	return keys, nil
}

// discover asks the issuer where its keys are (OpenID Connect Discovery 1.0).
func (k *KeySet) discover(ctx context.Context) (jwks string, err error) {
	document, err := k.read(ctx, strings.TrimSuffix(k.o.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", fmt.Errorf("the discovery document: %w", err)
	}
	var found struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(document, &found); err != nil {
		return "", errors.New("the discovery document is not a JSON object")
	}
	u, err := url.Parse(found.JWKS)
	switch {
	case found.Issuer != k.o.Issuer:
		return "", fmt.Errorf("the discovery document is of another issuer, %.100q", found.Issuer)
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "", errors.New("the discovery document has no jwks_uri that can be used")
	case u.Scheme == "http" && strings.HasPrefix(k.o.Issuer, "https:"):
		return "", errors.New("the discovery document's jwks_uri is not https, though the issuer is")
	}
	return found.JWKS, nil
}

// read gets a document from a URL or a file.
func (k *KeySet) read(ctx context.Context, source string) ([]byte, error) {
	if !strings.HasPrefix(source, "http://") && !strings.HasPrefix(source, "https://") {
		f, err := os.Open(source)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readAll(f)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	res, err := k.o.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", res.Status)
	}
	return readAll(res.Body)
}

func readAll(from io.Reader) ([]byte, error) {
	document, err := io.ReadAll(io.LimitReader(from, maxKeySetSize+1))
	if err == nil && len(document) > maxKeySetSize {
		err = fmt.Errorf("it is larger than %d bytes", maxKeySetSize)
	}
	return document, err
}

// StayOnTLS keeps a client from being led from https to http. It is for http.Client.CheckRedirect.
func StayOnTLS(next *http.Request, before []*http.Request) error {
	const most = 5
	switch {
	case len(before) >= most:
		return fmt.Errorf("more than %d redirects", most)
	case next.URL.Scheme != "https" && before[0].URL.Scheme == "https":
		return errors.New("it leads from https to http")
	}
	return nil
}
