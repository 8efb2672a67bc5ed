// Command relay stands between browsers and LLM providers and streams the answers as they are written.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
)

// version is set by the linker in releases.
var version = ""

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // wrong arguments or settings
)

func main() {
	signals := make(chan os.Signal, 2) // two: a second one must not be lost while the first is handled
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE) // that nobody reads the log any more is no reason to cut every stream
	os.Exit(run(os.Args[1:], os.Environ(), received{signals, hangUps()}, os.Stdout, os.Stderr))
}

// received are the signals that the process is sent.
type received struct {
	end    <-chan os.Signal
	hangUp <-chan os.Signal // SIGHUP
}

// hangUps are taken from the first moment to the last. Who writes the file and sends one does not know that the relay
// has just been started, and waits for Redis, or has just begun to drain; and what SIGHUP does of itself is to kill.
func hangUps() <-chan os.Signal {
	signals := make(chan os.Signal, 1) // what comes while one is handled is the same
	nohup := signal.Ignored(syscall.SIGHUP)
	if !nohup || os.Getenv("RELAY_CONFIG") != "" {
		signal.Notify(signals, syscall.SIGHUP)
	}
	return signals
}

const synopsis = `relay streams chat answers from LLM providers to browsers.

Usage:
  relay               serve
  relay check         say whether the settings can be used, and who would answer for which model
  relay doctor URL    find what on the path to a relay harms streams; see relay doctor --help
  relay healthcheck   exit 0 if the relay on this machine answers, for containers
  relay --version
  relay --help

Settings come from the environment and, if RELAY_CONFIG names one, a file. Without any, the demo provider answers.
`

func run(args, environ []string, signals received, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 {
		command = args[0]
	}
	switch {
	case command == "doctor":
		return runDoctor(args[1:], environ, signals.end, stdout, stderr)
	case len(args) > 1:
		fmt.Fprintf(stderr, "relay: unexpected argument %q; see relay --help\n", args[1])
		return exitUsage
	case command == "--help" || command == "-h" || command == "help":
		fmt.Fprint(stdout, synopsis)
		config.Usage(stdout, kinds)
		return exitOK
	case command == "--version" || command == "version":
		fmt.Fprintln(stdout, "relay", buildVersion())
		return exitOK
	case command != "serve" && command != "check" && command != "healthcheck":
		fmt.Fprintf(stderr, "relay: unknown command %q; see relay --help\n", command)
		return exitUsage
	}

	cfg, err := config.Load(environ, kinds)
	if err != nil {
		fmt.Fprintf(stderr, "relay: the settings have problems (relay --help lists them all):\n%s\n", err)
		return exitUsage
	}
	switch command {
	case "check":
		check(cfg, stdout)
	case "healthcheck":
		err = healthcheck(cfg)
	default:
		err = serveLogged(cfg, environ, stderr, signals)
	}
	if err != nil {
		fmt.Fprintln(stderr, "relay:", err)
		return exitFailure
	}
	return exitOK
}

func serveLogged(cfg *config.Config, environ []string, stderr io.Writer, signals received) error {
	queue := newLogQueue(stderr, tellLost(cfg, stderr))
	defer queue.Close()
	return serve(cfg, environ, newLogger(cfg, stderr, queue), queue.Lost, signals)
}

// tellLost writes to the log, past the queue and whatever the log's level, how many lines it has lost.
func tellLost(cfg *config.Config, stderr io.Writer) func(lines int) {
	direct := newLogger(cfg, stderr, stderr).Level(zerolog.WarnLevel)
	return func(lines int) {
		direct.Warn().Int("lines", lines).Msg("lines are missing here: the log is not read as fast as it is written")
	}
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
