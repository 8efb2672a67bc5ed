package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/websopy/relay/internal/doctor"
)

const doctorUsage = `relay doctor measures the path to a relay, and finds what on it harms streams.

Usage:
  relay doctor [flags] URL

  --key KEY        API key or token; or in DOCTOR_KEY, where other users of the machine don't see it
  --origin ORIGIN  page whose requests to check, like https://app.example.com
  --for TIME       how long to look at most, 2m unless told; short time-outs show sooner
  --json           the report as JSON

The relay needs RELAY_PROBE=true while it is examined. The exit code is 1 when something was found.
`

// runDoctor is the command doctor.
func runDoctor(args, environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var o doctor.Options
	flags.StringVar(&o.Key, "key", variable(environ, "DOCTOR_KEY"), "")
	flags.StringVar(&o.Origin, "origin", "", "")
	flags.DurationVar(&o.For, "for", 2*time.Minute, "")
	asJSON := flags.Bool("json", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, doctorUsage)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "relay doctor: %v; see relay doctor --help\n", err)
		return exitUsage
	case flags.NArg() != 1:
		fmt.Fprintln(stderr, "relay doctor: one URL is needed; see relay doctor --help")
		return exitUsage
	}
	o.URL = flags.Arg(0)
	const shortest = 5 * time.Second
	switch u, err := url.Parse(o.URL); {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		fmt.Fprintf(stderr, "relay doctor: %q is not a URL like https://chat.example.com\n", o.URL)
		return exitUsage
	case o.For < shortest:
		fmt.Fprintf(stderr, "relay doctor: --for is less than %v\n", shortest)
		return exitUsage
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-signals:
			cancel(errors.New("interrupted"))
		case <-over:
		}
	}()
	progress := newProgress(stderr)
	o.Progress = progress.show
	report, err := doctor.Examine(ctx, o)
	progress.clear()
	if err != nil {
		fmt.Fprintf(stderr, "relay doctor: %s: %v\n", o.URL, err)
		return exitFailure
	}
	if *asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = writeReport(stdout, report)
	}
	if err != nil || len(report.Findings) > 0 {
		return exitFailure
	}
	return exitOK
}

func variable(environ []string, name string) string {
	for _, pair := range environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

func writeReport(w io.Writer, r *doctor.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", r.URL, r.Protocol)
	if r.Inside != "" {
		fmt.Fprintf(&b, " outside, %s at the relay", r.Inside)
	}
	b.WriteString("\n")
	for _, hop := range r.Hops {
		fmt.Fprintf(&b, "  %s\n", hop)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n%s: %s\n", f.ID, f.Shows)
		if f.Likely != "" {
			fmt.Fprintf(&b, "  likely: %s\n", f.Likely)
		}
		fmt.Fprintf(&b, "  remedy: %s\n", f.Remedy)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\nnote: %s\n", note)
	}
	for _, skipped := range r.Skipped {
		fmt.Fprintf(&b, "\nnot checked: %s\n", skipped)
	}
	switch n := len(r.Findings); {
	case n == 1:
		b.WriteString("\n1 finding\n")
	case n > 1:
		fmt.Fprintf(&b, "\n%d findings\n", n)
	case len(r.Skipped) == 0:
		b.WriteString("\nnothing on this path harms streams\n")
	default:
		b.WriteString("\nnothing found\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// progress is one line on a terminal that is written over.
type progress struct {
	w    io.Writer
	last int
}

func newProgress(w io.Writer) *progress {
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return &progress{w: w}
	}
	return &progress{w: io.Discard}
}

func (p *progress) show(text string) {
	fmt.Fprintf(p.w, "\r%-*s", p.last, text)
	p.last = len(text)
}

func (p *progress) clear() { fmt.Fprintf(p.w, "\r%*s\r", p.last, "") }
