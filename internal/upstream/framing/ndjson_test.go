package framing

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// longLine is more than the buffer for values begins with.
var longLine = `{"long":"` + strings.Repeat("x", 5<<10) + `"}`

var valueBodies = map[string]struct {
	in   string
	want []string
}{
	"a value a line": {"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n", []string{`{"a":1}`, `{"b":2}`, `{"c":3}`}},
	"several a line": {"{\"a\":1}{\"b\":2} {\"c\":3}", []string{`{"a":1}`, `{"b":2}`, `{"c":3}`}},
	"a value over many lines": {"{\n  \"a\": {\n \"b\": \"}\\\"{\" }\n}\n\n{\"c\":3}",
		[]string{"{\n  \"a\": {\n \"b\": \"}\\\"{\" }\n}", `{"c":3}`}},
	"a list of values":             {"[{\"a\":[1]}\n,\r\n{\"b\":2}]", []string{`{"a":[1]}`, `{"b":2}`}},
	"a byte order mark":            {"\ufeff{\"a\":1}", []string{`{"a":1}`}},
	"a last value without its end": {"{\"a\":1}\n{\"b\"", []string{`{"a":1}`, `{"b" partial`}},
	"a line that was cut":          {"{\"a\":\"x\n{\"b\":2}\n", []string{`{"a":"x`, `{"b":2}`}},
	"a line that is no object":     {"<p>\n{\"b\":2}\nnull\n", []string{`<p>`, `{"b":2}`, "null"}},
	"blank lines":                  {"\n \n{\"a\":1}\r\n\n", []string{`{"a":1}`}},
	"a long value":                 {longLine + "\n{\"a\":1}\n", []string{longLine, `{"a":1}`}},
	"a long value that never ends": {"{\"a\":1}\n" + longLine[:len(longLine)-1],
		[]string{`{"a":1}`, longLine[:len(longLine)-1] + " partial"}},
	"nothing": {"", nil},
}

func readValues(t *testing.T, l *values) (all []string) {
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

func TestValuesThatAreResetKnowNothingOfTheStreamBefore(t *testing.T) {
	for before, first := range valueBodies {
		for name, second := range valueBodies {
			for _, reads := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
				for begun := range 4 { // lines before they are reset, and a look for the next one
					l := new(values)
					l.Reset(reads(strings.NewReader(first.in)))
					for range begun {
						_, _ = l.Next()
						l.Buffered()
					}
					l.Reset(strings.NewReader(second.in))
					require.False(t, l.Ended())
					require.False(t, l.Buffered(), "nothing was read yet")
					require.Equal(t, second.want, readValues(t, l), "%s, after %s", name, before)
				}
			}
		}
	}
}

func TestTheBufferForValuesIsUsedAgainUnlessItIsLarge(t *testing.T) {
	l, body := new(values), new(strings.Reader)
	read := func(in string) {
		body.Reset(in)
		l.Reset(body)
		for {
			if _, err := l.Next(); err != nil {
				break
			}
		}
	}
	answer := strings.Repeat(`{"message":{"content":" token"},"done":false}`+"\n", 2)
	require.Zero(t, testing.AllocsPerRun(100, func() { read(answer) }), "all but the first answer find it there")

	read(longLine)
	require.Greater(t, cap(l.buf), len(longLine))
	l.Reset(nil)
	require.Zero(t, cap(l.buf), "an idle one would hold the memory of a long line")
}
