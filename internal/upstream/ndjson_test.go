package upstream_test

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/upstream"
)

// longLine is more than the buffer for lines begins with.
var longLine = `{"long":"` + strings.Repeat("x", 5<<10) + `"}`

var lineBodies = map[string]struct {
	in   string
	want []string
}{
	"lines":                       {"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n", []string{`{"a":1}`, `{"b":2}`, `{"c":3}`}},
	"a last line without its end": {"{\"a\":1}\n{\"b\"", []string{`{"a":1}`, `{"b" partial`}},
	"blank lines":                 {"\n \n{\"a\":1}\r\n\n", []string{"{\"a\":1}\r"}},
	"a long line":                 {longLine + "\n{\"a\":1}\n", []string{longLine, `{"a":1}`}},
	"a long line that never ends": {"{\"a\":1}\n" + longLine, []string{`{"a":1}`, longLine + " partial"}},
	"nothing":                     {"", nil},
}

func readLines(t *testing.T, l *upstream.Lines) (all []string) {
	t.Helper()
	for {
		ev, err := l.Next()
		if err != nil {
			require.Equal(t, io.EOF, err)
			return all
		}
		line := string(ev.Data)
		if ev.Partial {
			line += " partial"
		}
		all = append(all, line)
	}
}

func TestLinesThatAreResetKnowNothingOfTheStreamBefore(t *testing.T) {
	for before, first := range lineBodies {
		for name, second := range lineBodies {
			for _, reads := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
				for begun := range 4 { // lines before they are reset, and a look for the next one
					l := new(upstream.Lines)
					l.Reset(reads(strings.NewReader(first.in)))
					for range begun {
						_, _ = l.Next()
						l.Buffered()
					}
					l.Reset(strings.NewReader(second.in))
					require.False(t, l.Ended())
					require.False(t, l.Buffered(), "nothing was read yet")
					require.Equal(t, second.want, readLines(t, l), "%s, after %s", name, before)
				}
			}
		}
	}
}

func TestTheBufferForLinesIsUsedAgainUnlessItIsLarge(t *testing.T) {
	l, body := new(upstream.Lines), new(strings.Reader)
	read := func(in string) {
		body.Reset(in)
		l.Reset(body)
		for {
			if _, err := l.Next(); err != nil {
				break
			}
		}
	}
	answer := lines(ollamaText, ollamaText)
	require.Zero(t, testing.AllocsPerRun(100, func() { read(answer) }), "all but the first answer find it there")

	read(longLine)
	require.Greater(t, l.BufferSize(), len(longLine))
	l.Reset(nil)
	require.Zero(t, l.BufferSize(), "an idle one would hold the memory of a long line")
}
