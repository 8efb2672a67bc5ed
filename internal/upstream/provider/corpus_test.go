package provider_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
)

// transcript is a recorded answer and what is expected of it. The corpus lies beside the checkout and is
// no part of it.
type transcript struct {
	ID       string `json:"id"`
	File     string `json:"file"`
	Dialect  string `json:"dialect"`
	Expected string `json:"expected"`
	Meta     string `json:"meta"`

	body   []byte
	pieces []int // as it was received, where that is known
	want   expectation
}

type expectation struct {
	Text      string                               `json:"text"`
	Reasoning string                               `json:"reasoning"`
	ToolCalls []struct{ Name, Arguments string }   `json:"tool_calls"`
	Usage     *struct{ Prompt, Completion *int64 } `json:"usage"`
	Finish    *string                              `json:"finish_reason"`
	Errored   bool                                 `json:"errored"`
	Block     *string                              `json:"block_reason"`
	Refusal   string                               `json:"refusal"`
}

// corpusKinds are the kinds that read a transcript's dialect, with what ends their streams.
var corpusKinds = map[string]struct {
	kind     string
	terminal *regexp.Regexp
}{
	"openai-chat":      {"openai", regexp.MustCompile(`"finish_reason": ?"|\[DONE\]`)},
	"azure":            {"openai", regexp.MustCompile(`"finish_reason": ?"|\[DONE\]`)},
	"mistral":          {"openai", regexp.MustCompile(`"finish_reason": ?"|\[DONE\]`)},
	"openai-responses": {"openai-responses", regexp.MustCompile(`response\.(completed|incomplete|failed)`)},
	"anthropic":        {"anthropic", regexp.MustCompile(`message_delta`)},
	"gemini":           {"gemini", regexp.MustCompile(`"finishReason"|"blockReason"`)},
	"ollama":           {"ollama", regexp.MustCompile(`"done": ?true`)},
	"cohere":           {"cohere", regexp.MustCompile(`message-end`)},
}

func corpus(t testing.TB) []*transcript {
	shared := os.Getenv("RELAY_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "..", "shared")
	}
	dir := filepath.Join(shared, "corpus")
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Skip("no recorded streams: set RELAY_SHARED to the folder that holds corpus/")
	}
	var list []*transcript
	require.NoError(t, json.Unmarshal(index, &list))
	read := func(name string, v any) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		if v != nil {
			require.NoError(t, json.Unmarshal(b, v), name)
		}
		return b
	}
	for _, tr := range list {
		var meta struct {
			Pieces []int `json:"chunk_lengths"`
		}
		tr.body = read(tr.File, nil)
		read(tr.Expected, &tr.want)
		read(tr.Meta, &meta)
		tr.pieces = meta.Pieces
	}
	return list
}

func TestRecordedStreams(t *testing.T) {
	for _, tr := range corpus(t) {
		kind := corpusKinds[tr.Dialect]
		if kind.kind == "" {
			continue
		}
		t.Run(tr.ID, func(t *testing.T) {
			whole := decodeWith(t, kind.kind, func() io.Reader { return bytes.NewReader(tr.body) })
			require.NoError(t, tr.want.compare(tr.Dialect, whole))
			requireSame(t, whole, decodeWith(t, kind.kind, tr.inPieces), "in pieces")
			for i, got := range answers(t, kind.kind, http.StatusOK, nil, tr.reads()) {
				requireSame(t, whole, got, "read %d", i)
			}
			if cut := tr.beforeTerminal(kind.terminal); cut > 0 {
				got := decodeWith(t, kind.kind, func() io.Reader { return bytes.NewReader(tr.body[:cut]) })
				require.Equal(t, chat.UpstreamTruncated, chat.AsError(got.Err).Code, "cut")
				require.True(t, strings.HasPrefix(tr.want.Text+tr.want.Refusal, got.Text), "cut")
			}
		})
	}
}

// inPieces reads the body as its recorder received it, or in small pieces that are the same each time.
func (tr *transcript) inPieces() io.Reader {
	rnd := rand.New(rand.NewSource(int64(len(tr.body))))
	var readers []io.Reader
	rest := tr.body
	for i := 0; len(rest) > 0; i++ {
		n := 1 + rnd.Intn(max(7, len(tr.body)/400))
		if i < len(tr.pieces) {
			n = tr.pieces[i]
		}
		n = min(n, len(rest))
		readers = append(readers, bytes.NewReader(rest[:n]))
		rest = rest[n:]
	}
	return io.MultiReader(readers...)
}

// reads are the ways to read the body that must make no difference: byte by byte, and so that each byte is
// the last one of a read. The cuts are a piece apart, and in a body that is not long there is one at a time as
// well, which leaves all else to be found in two large reads.
func (tr *transcript) reads() []func() io.Reader {
	const piece, long = 64, 16 << 10
	all := []func() io.Reader{func() io.Reader { return oneByte{bytes.NewReader(tr.body)} }}
	if len(tr.body) < long {
		all = splits(tr.body)
	}
	for first := range piece {
		all = append(all, func() io.Reader { return &pieces{tr.body, piece, first + 1} })
	}
	return all
}

// pieces reads a body in pieces of a size.
type pieces struct {
	rest []byte
	size int
	left int // of the piece in progress; the first one may be smaller
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.rest[:min(p.left, len(p.rest))])
	p.rest = p.rest[n:]
	if p.left -= n; p.left == 0 {
		p.left = p.size
	}
	return n, nil
}

// beforeTerminal is the end of the last whole event before the provider says that it is done, 0 if there
// is none.
func (tr *transcript) beforeTerminal(terminal *regexp.Regexp) int {
	loc := terminal.FindIndex(tr.body)
	if loc == nil || tr.want.Errored {
		return 0
	}
	separators := []string{"\r\n\r\n", "\n\n"}
	if tr.Dialect == "ollama" {
		separators = []string{"\n"}
	}
	for _, sep := range separators {
		if i := bytes.LastIndex(tr.body[:loc[0]], []byte(sep)); i >= 0 {
			return i + len(sep)
		}
	}
	return 0
}

func (x expectation) compare(dialect string, got chattest.Transcript) error {
	switch {
	case got.Text != x.Text && got.Text != x.Text+x.Refusal:
		return fmt.Errorf("text %q, want %q", got.Text, x.Text)
	case got.Reasoning != x.Reasoning:
		return fmt.Errorf("reasoning %q, want %q", got.Reasoning, x.Reasoning)
	case x.Errored || x.Block != nil:
		if got.Err == nil {
			return fmt.Errorf("the provider's error is missing")
		}
		return nil
	case got.Err != nil:
		return got.Err
	case len(got.Tools) != len(x.ToolCalls):
		return fmt.Errorf("tool calls %v, want %v", got.Tools, x.ToolCalls)
	}
	for i, want := range x.ToolCalls {
		if g := got.Tools[i]; g.Name != want.Name || !sameArguments(g.Arguments, want.Arguments) {
			return fmt.Errorf("tool call %d is %v, want %v", i, g, want)
		}
	}
	if x.Usage != nil && x.Usage.Prompt != nil && x.Usage.Completion != nil {
		u := got.Done.Usage
		switch {
		case u == nil:
			return fmt.Errorf("usage is missing")
		// Ours has the thinking of Gemini and the cached prompt of Anthropic in it.
		case u.CompletionTokens != *x.Usage.Completion &&
			(dialect != "gemini" || u.CompletionTokens < *x.Usage.Completion),
			u.PromptTokens != *x.Usage.Prompt && (dialect != "anthropic" || u.PromptTokens < *x.Usage.Prompt):
			return fmt.Errorf("usage %v, want %d and %d", *u, *x.Usage.Prompt, *x.Usage.Completion)
		}
	}
	if x.Finish == nil {
		return nil
	}
	if want := finishReasons[strings.ToLower(*x.Finish)]; want != got.Done.FinishReason &&
		(len(x.ToolCalls) == 0 || got.Done.FinishReason != chat.FinishToolCalls) {
		return fmt.Errorf("finish reason %q for the provider's %q", got.Done.FinishReason, *x.Finish)
	}
	return nil
}

// finishReasons has the providers' words of the corpus.
var finishReasons = map[string]chat.FinishReason{
	"stop": chat.FinishStop, "end_turn": chat.FinishStop, "stop_sequence": chat.FinishStop, "eos": chat.FinishStop,
	"complete": chat.FinishStop, "completed": chat.FinishStop,
	"length": chat.FinishLength, "max_tokens": chat.FinishLength, "incomplete": chat.FinishLength,
	"tool_calls": chat.FinishToolCalls, "tool_use": chat.FinishToolCalls, "tool_call": chat.FinishToolCalls,
	"refusal": chat.FinishContentFilter, "safety": chat.FinishContentFilter, "recitation": chat.FinishContentFilter,
	"content_filter": chat.FinishContentFilter,
}

func sameArguments(a, b string) bool {
	var x, y any
	if a == "" {
		a = "{}"
	}
	if b == "" {
		b = "{}"
	}
	return a == b || json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil &&
		reflect.DeepEqual(x, y)
}
