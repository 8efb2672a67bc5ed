// Command image makes the container image without a daemon, twice the same from the same source, and the list of what
// is in it. It has a module of its own, so that the relay does not depend on what images are made with.
//
//	go run . -version v1.2.3 -epoch 1796040000 -out dir
//
// It writes relay-<arch>.tar, which `docker load` and `skopeo copy docker-archive:` read, relay-<arch>.cdx.json, a
// CycloneDX SBOM of the binary, and digests.txt, by which others can check what is published.
package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// options are the flags.
type options struct {
	source  string // the relay's module
	out     string
	version string
	epoch   time.Time // of everything in the image
	archs   []string
}

func main() {
	var o options
	var epoch int64
	var archs string
	flag.StringVar(&o.source, "source", "../..", "the relay's source")
	flag.StringVar(&o.out, "out", "../../bin/image", "where to write")
	flag.StringVar(&o.version, "version", "dev", "the version that the relay tells")
	flag.Int64Var(&epoch, "epoch", 0, "the time in the image, in seconds since 1970: that of the commit")
	flag.StringVar(&archs, "arch", "amd64,arm64", "architectures, comma-separated")
	flag.Parse()
	o.epoch, o.archs = time.Unix(epoch, 0).UTC(), strings.Split(archs, ",")
	if err := o.run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func (o *options) run(say io.Writer) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	var digests strings.Builder
	for _, arch := range o.archs {
		digest, err := o.image(arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		fmt.Fprintf(&digests, "%s  linux/%s\n", digest, arch)
	}
	fmt.Fprint(say, digests.String())
	return os.WriteFile(filepath.Join(o.out, "digests.txt"), []byte(digests.String()), 0o644)
}

// image makes the files of one architecture.
func (o *options) image(arch string) (v1.Hash, error) {
	binary, err := o.build(arch)
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.Remove(binary)
	layer, err := o.layer(binary)
	if err != nil {
		return v1.Hash{}, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return v1.Hash{}, err
	}
	if img, err = mutate.ConfigFile(img, o.config(img, arch)); err != nil {
		return v1.Hash{}, err
	}
	tag, err := name.NewTag("websopy/relay:" + o.version)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := tarball.WriteToFile(filepath.Join(o.out, "relay-"+arch+".tar"), tag, img); err != nil {
		return v1.Hash{}, err
	}
	if err := o.sbom(binary, filepath.Join(o.out, "relay-"+arch+".cdx.json")); err != nil {
		return v1.Hash{}, err
	}
	return img.Digest()
}

// build makes the binary. Nothing of the machine gets into it: no paths, no state of the checkout, no C.
func (o *options) build(arch string) (path string, err error) {
	path, err = filepath.Abs(filepath.Join(o.out, "relay-"+arch))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-tags", "grpcnotrace", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+o.version, "-o", path, "./cmd/relay")
	cmd.Dir = o.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=-mod=readonly",
		"GOAMD64=v1", "GOARM64=v8.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// layer has the binary and the certificate authorities, and nothing else.
func (o *options) layer(binary string) (v1.Layer, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"etc/", 0o755, nil},
		{"etc/ssl/", 0o755, nil},
		{"etc/ssl/certs/", 0o755, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, authorities()},
		{"relay", 0o755, content},
	} {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: o.epoch,
			Format: tar.FormatUSTAR}
		header.Typeflag = tar.TypeReg
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files.Bytes())), nil
	})
}

// authorities are Mozilla's, as a pinned module has them: those of the machine would differ from one to the next.
func authorities() []byte {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		_ = pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer does not fail
	}
	return all.Bytes()
}

// config is that of the Dockerfile.
func (o *options) config(img v1.Image, arch string) *v1.ConfigFile {
	cf, err := img.ConfigFile()
	if err != nil {
		panic(err) // of an image in memory
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Created = "linux", arch, v1.Time{Time: o.epoch}
	for i := range cf.History {
		cf.History[i] = v1.History{Created: v1.Time{Time: o.epoch}, CreatedBy: "deploy/image"}
	}
	cf.Config = v1.Config{
		User:         "65532:65532",
		Entrypoint:   []string{"/relay"},
		Env:          []string{"RELAY_ADMIN_ADDR=:9090"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "9090/tcp": {}},
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/relay", "healthcheck"}, Interval: 10 * time.Second,
			Timeout: 4 * time.Second, StartPeriod: 5 * time.Second},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "relay",
			"org.opencontainers.image.description": "Streams chat answers from any LLM provider to browsers",
			"org.opencontainers.image.licenses":    "MIT",
			"org.opencontainers.image.source":      "https://github.com/websopy/relay",
			"org.opencontainers.image.version":     o.version,
		},
	}
	return cf
}

// sbom lists the modules that the binary says it was built from.
func (o *options) sbom(binary, file string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: o.epoch.Format(time.RFC3339),
		Component: component(cyclonedx.ComponentTypeApplication, info.Main.Path, o.version, ""),
	}
	all := []cyclonedx.Component{*component(cyclonedx.ComponentTypeLibrary, "stdlib",
		strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		all = append(all, *component(cyclonedx.ComponentTypeLibrary, dep.Path, dep.Version, dep.Sum))
	}
	slices.SortFunc(all, func(a, b cyclonedx.Component) int { return strings.Compare(a.PackageURL, b.PackageURL) })
	bom.Components = &all
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return err
	}
	return out.Close()
}

// component is a module, by its package URL (https://github.com/package-url/purl-spec, type golang). sum is go.sum's.
func component(kind cyclonedx.ComponentType, path, version, sum string) *cyclonedx.Component {
	c := &cyclonedx.Component{Type: kind, Name: path, Version: version,
		PackageURL: "pkg:golang/" + path + "@" + version}
	c.BOMRef = c.PackageURL
	if sum != "" {
		c.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: sum}}
	}
	return c
}
