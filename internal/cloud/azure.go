package cloud

import (
	"context"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// azureScope is what tokens are for, unless the operator says otherwise.
const azureScope = "https://cognitiveservices.azure.com/.default"

// Azure shows tokens of Entra: of a workload identity if AZURE_FEDERATED_TOKEN_FILE is set, of a service principal if
// AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH is, and else of a managed identity, which AZURE_CLIENT_ID may
// name. scope may be empty.
func Azure(scope string, tell Tell) Credential {
	if scope == "" {
		scope = azureScope
	}
	return bearer{keep(func(ctx context.Context) (fetched[string], error) {
		c, name, err := azureCredential()
		found := fetched[string]{name: name}
		if err != nil {
			return found, err
		}
		token, err := c.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
		if err != nil {
			return found, err
		}
		found.value, found.expires = token.Token, token.ExpiresOn
		return found, nil
	}, tell)}
}

// azureCredential chooses one credential. The SDK's own chain would try all of them, and hide why the right one
// failed.
func azureCredential() (c azcore.TokenCredential, name string, err error) {
	switch {
	case os.Getenv("AZURE_FEDERATED_TOKEN_FILE") != "":
		c, err = azidentity.NewWorkloadIdentityCredential(nil)
		return c, "azure workload identity", err
	case os.Getenv("AZURE_CLIENT_SECRET") != "" || os.Getenv("AZURE_CLIENT_CERTIFICATE_PATH") != "":
		c, err = azidentity.NewEnvironmentCredential(nil)
		return c, "azure service principal", err
	}
	o := new(azidentity.ManagedIdentityCredentialOptions)
	if id := os.Getenv("AZURE_CLIENT_ID"); id != "" {
		o.ID = azidentity.ClientID(id)
	}
	c, err = azidentity.NewManagedIdentityCredential(o)
	return c, "azure managed identity", err
}
