package relaytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// binary makes the relay when a test asks for it first. Main says how.
var binary func() (path string, err error)

// Main runs a package's tests and gives their exit code. The relay is built once, where a test needs it, with these
// flags of go build. RELAY_TEST_BINARY names another relay to run instead, so as to compare.
func Main(tests func() int, flags ...string) int {
	dir, err := os.MkdirTemp("", "relay-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = sync.OnceValues(func() (string, error) {
		if path := os.Getenv("RELAY_TEST_BINARY"); path != "" {
			return path, nil
		}
		path := filepath.Join(dir, "relay")
		return path, Build(path, flags...)
	})
	return tests()
}

// Build builds the relay.
func Build(path string, flags ...string) error {
	where := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/websopy/relay")
	dir, err := where.Output()
	if err != nil {
		return fmt.Errorf("%v: %w", where, err)
	}
	build := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "./cmd/relay")...)
	build.Dir = string(bytes.TrimSpace(dir)) // in its own module, wherever the tests are
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", build, err, out)
	}
	return nil
}

// Binary is the path of the relay that is tested.
func Binary(t testing.TB) string {
	t.Helper()
	require.NotNil(t, binary, "TestMain does not call relaytest.Main")
	path, err := binary()
	require.NoError(t, err)
	return path
}

// environ is what a relay gets from its surroundings: the settings, and nothing that the machine happens to have set.
func environ(settings []string) []string {
	// The race detector makes each exit a second long unless it is told otherwise.
	common := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GORACE=atexit_sleep_ms=0"}
	return append(common, settings...)
}

// Run runs the relay to its end, as for the commands that are not to serve.
func Run(t testing.TB, settings []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	binary := Binary(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environ(settings)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		require.True(t, errors.As(err, &exit), "%v", err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}
