package main

import (
	"archive/tar"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
)

func build(t *testing.T, source string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	o := options{source: source, out: dir, version: "v1.2.3", epoch: time.Unix(1_796_040_000, 0).UTC(),
		archs: []string{runtime.GOARCH}}
	require.NoError(t, o.run(io.Discard))
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(content)
}

// What is published can be checked only if anybody gets the same from the same source: at another place, at another
// time.
func TestTheSameSourceMakesTheSameImage(t *testing.T) {
	here := build(t, "../..")
	elsewhere := filepath.Join(t.TempDir(), "a copy")
	require.NoError(t, os.MkdirAll(elsewhere, 0o755))
	for _, part := range []string{"go.mod", "go.sum", "cmd", "config", "internal"} {
		require.NoError(t, exec.Command("cp", "-r", "../../"+part, elsewhere).Run())
	}
	t.Setenv("TZ", "Asia/Shanghai")
	there := build(t, elsewhere)
	require.Contains(t, read(t, here, "digests.txt"), "sha256:")
	require.Equal(t, read(t, here, "digests.txt"), read(t, there, "digests.txt"))
	sbom := "relay-" + runtime.GOARCH + ".cdx.json"
	require.Equal(t, read(t, here, sbom), read(t, there, sbom))

	require.NoError(t, os.WriteFile(filepath.Join(elsewhere, "cmd/relay/more.go"),
		[]byte("package main\n\nfunc init() { println() }\n"), 0o600))
	require.NotEqual(t, read(t, here, "digests.txt"), read(t, build(t, elsewhere), "digests.txt"))
}

func TestWhatIsInTheImage(t *testing.T) {
	dir := build(t, "../..")
	img, err := tarball.ImageFromPath(filepath.Join(dir, "relay-"+runtime.GOARCH+".tar"), nil)
	require.NoError(t, err)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	dockerfile := read(t, "../../Dockerfile")
	require.Equal(t, runtime.GOARCH, config.Architecture)
	require.Contains(t, dockerfile, "\nUSER "+config.Config.User+"\n")
	require.Contains(t, dockerfile, "\nENV "+config.Config.Env[0]+"\n")
	entrypoint, err := json.Marshal(config.Config.Entrypoint)
	require.NoError(t, err)
	require.Contains(t, dockerfile, "\nENTRYPOINT "+string(entrypoint))
	for label := range config.Config.Labels {
		require.Contains(t, dockerfile, label)
	}

	layers, err := img.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	content, err := layers[0].Uncompressed()
	require.NoError(t, err)
	files := make(map[string][]byte)
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.EqualValues(t, 1_796_040_000, header.ModTime.Unix())
		files[header.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	require.Len(t, files, 5)
	require.True(t, x509.NewCertPool().AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"]))
	binary := filepath.Join(t.TempDir(), "relay")
	require.NoError(t, os.WriteFile(binary, files["relay"], 0o700))
	out, err := exec.Command(binary, "--version").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "v1.2.3")
}

func TestTheListOfWhatIsInTheBinary(t *testing.T) {
	f, err := os.Open(filepath.Join(build(t, "../.."), "relay-"+runtime.GOARCH+".cdx.json"))
	require.NoError(t, err)
	defer f.Close()
	var bom cyclonedx.BOM
	require.NoError(t, cyclonedx.NewBOMDecoder(f, cyclonedx.BOMFileFormatJSON).Decode(&bom))
	require.Equal(t, "pkg:golang/github.com/websopy/relay@v1.2.3", bom.Metadata.Component.PackageURL)
	listed := make(map[string]bool)
	for _, c := range *bom.Components {
		listed[c.PackageURL] = true
	}
	require.True(t, listed["pkg:golang/stdlib@"+strings.TrimPrefix(runtime.Version(), "go")])
	for _, needed := range []string{"github.com/go-chi/chi/v5", "github.com/rs/zerolog", "github.com/redis/rueidis"} {
		_, version, found := strings.Cut(read(t, "../../go.mod"), needed+" ")
		require.True(t, found, needed)
		version, _, _ = strings.Cut(version, "\n")
		require.True(t, listed["pkg:golang/"+needed+"@"+version], needed)
	}
	for _, test := range []string{"stretchr/testify", "goleak"} {
		for purl := range listed {
			require.NotContains(t, purl, test, "it is for tests, and not in the binary")
		}
	}
}
