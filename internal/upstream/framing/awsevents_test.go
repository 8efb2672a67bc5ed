package framing

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/sse"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

func awsFrame(payload string, headers ...string) []byte {
	return []byte(upstreamtest.AWSFrame(payload, headers...))
}

func rawAWSFrame(headers []byte, payload string) []byte {
	return []byte(upstreamtest.RawAWSFrame(string(headers), payload))
}

func awsEvent(typ, payload string) []byte { return []byte(upstreamtest.AWSEvent(typ, payload)) }

// readAWS reads all events as "type data", and the error that ends them.
func readAWS(r io.Reader) (all []string, err error) {
	v := new(awsEvents)
	v.Reset(r)
	for {
		ev, err := v.Next()
		if err != nil {
			return all, err
		}
		all = append(all, string(ev.Type)+" "+string(ev.Data))
	}
}

var awsStream = bytes.Join([][]byte{
	awsEvent("messageStart", `{"role":"assistant"}`),
	awsEvent("contentBlockDelta", `{"delta":{"text":"Hi"}}`),
	rawAWSFrame(
		append(
			[]byte(
				"\x01a\x00\x01b\x01\x01c\x02x\x01d\x03xx\x01e\x04xxxx\x01f\x05xxxxxxxx\x01g\x06\x00\x02xx\x01h\x08xxxxxxxx\x01i\x09"),
			"xxxxxxxxxxxxxxxx\x0b:event-type\x07\x00\x03all"...), `{}`),
	awsEvent("long", strings.Repeat("x", 3*awsBuffer)),
	awsEvent("empty", ""),
}, nil)

var awsRead = []string{
	`messageStart {"role":"assistant"}`, `contentBlockDelta {"delta":{"text":"Hi"}}`, `all {}`,
	"long " + strings.Repeat("x", 3*awsBuffer), "empty ",
}

func TestAWSFramesAreReadHoweverTheyAreCut(t *testing.T) {
	for i := range len(awsStream) {
		got, err := readAWS(io.MultiReader(bytes.NewReader(awsStream[:i]), bytes.NewReader(awsStream[i:])))
		require.Equal(t, io.EOF, err)
		require.Equal(t, awsRead, got, i)
	}
	for _, read := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
		got, err := readAWS(read(bytes.NewReader(awsStream)))
		require.Equal(t, io.EOF, err)
		require.Equal(t, awsRead, got)
	}
}

func TestAnEndInsideAnAWSFrameIsNoEnd(t *testing.T) {
	ends := map[int]bool{0: true}
	for i := 0; i < len(awsStream); {
		i += int(binary.BigEndian.Uint32(awsStream[i:]))
		ends[i] = true
	}
	for i := range len(awsStream) + 1 {
		_, err := readAWS(bytes.NewReader(awsStream[:i]))
		if ends[i] {
			require.Equal(t, io.EOF, err, i)
		} else {
			require.Equal(t, io.ErrUnexpectedEOF, err, i)
		}
	}
}

func TestAWSFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		frame []byte
		want  string
	}{
		"an exception": {awsFrame(`{"message":"Too many"}`, ":message-type", "exception", ":exception-type",
			"throttlingException"),
			`error {"__type":"throttlingException","error":{"message":"Too many"}}`},
		"an exception without a payload": {awsFrame("", ":message-type", "exception", ":exception-type",
			"internalServerException"),
			`error {"__type":"internalServerException"}`},
		"an exception in plain text": {awsFrame("oh \x00", ":message-type", "exception", ":exception-type", "x"),
			`error {"__type":"x","error":"oh \u0000"}`},
		"an error": {awsFrame("", ":message-type", "error", ":error-code", "InternalError", ":error-message",
			"It failed"),
			`error {"__type":"InternalError","message":"It failed"}`},
	} {
		got, err := readAWS(bytes.NewReader(tc.frame))
		require.Equal(t, io.EOF, err, name)
		require.Equal(t, []string{tc.want}, got, name)
	}
}

func TestAWSFramesThatAreNone(t *testing.T) {
	good := awsEvent("a", `{"b":1}`)
	for i := range good { // each single bit counts, in the lengths and in the rest
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			got, err := readAWS(bytes.NewReader(append(bad, good...)))
			require.ErrorIs(t, err, ErrGarbled)
			require.Empty(t, got, "nothing of it, and nothing behind it")
		}
	}
	header := func(length, headers uint32) []byte {
		f := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, length), headers)
		return append(binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f)), make([]byte, 64)...)
	}
	for name, tc := range map[string]struct {
		body []byte
		want error
	}{
		"a frame over the limit":         {header(sse.DefaultMaxEvent+awsAround+1, 0), sse.ErrTooLong},
		"headers over the limit":         {header(1<<20, maxAWSHeaders+1), sse.ErrTooLong},
		"a length of 4 GiB":              {header(1<<32-1, 0), sse.ErrTooLong},
		"shorter than a frame":           {header(15, 0), ErrGarbled},
		"shorter than its headers":       {header(20, 5), ErrGarbled},
		"a header of an unknown type":    {rawAWSFrame([]byte("\x01a\x0a"), ""), ErrGarbled},
		"a header without its type":      {rawAWSFrame([]byte("\x01a"), ""), ErrGarbled},
		"a header without its value":     {rawAWSFrame([]byte("\x01a\x04xx"), ""), ErrGarbled},
		"a header without its length":    {rawAWSFrame([]byte("\x01a\x07\x00"), ""), ErrGarbled},
		"a header that goes on too long": {rawAWSFrame([]byte("\x01a\x07\x00\x09x"), ""), ErrGarbled},
		"an event stream":                {[]byte("data: {\"text\":\"Hi\"}\n\n"), ErrGarbled},
	} {
		_, err := readAWS(bytes.NewReader(tc.body))
		require.ErrorIs(t, err, tc.want, name)
	}
}

// TestAClaimOfALongFrameTakesNoMemory: a frame that says that it is 16 MiB long costs what has come of it.
func TestAClaimOfALongFrameTakesNoMemory(t *testing.T) {
	f := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 16<<20), 0)
	f = binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f))
	v := new(awsEvents)
	v.Reset(bytes.NewReader(append(f, make([]byte, 100)...)))
	_, err := v.Next()
	require.Equal(t, io.ErrUnexpectedEOF, err)
	require.LessOrEqual(t, cap(v.buf), 2*awsBuffer)
}

func TestTheBufferForAWSFramesIsUsedAgainUnlessItIsLarge(t *testing.T) {
	v, body := new(awsEvents), new(bytes.Reader)
	short := bytes.Repeat(awsEvent("contentBlockDelta", `{"delta":{"text":"Hi"}}`), 100)
	read := func(in []byte) {
		body.Reset(in)
		v.Reset(body)
		for {
			if _, err := v.Next(); err != nil {
				return
			}
		}
	}
	read(short)
	require.Zero(t, testing.AllocsPerRun(100, func() { read(short) }))
	read(awsStream)
	require.Greater(t, cap(v.buf), 2*awsBuffer)
	v.Reset(nil)
	require.Zero(t, cap(v.buf))
}

// FuzzAWSEvents: the same events and the same end, however the body is cut; never a panic.
func FuzzAWSEvents(f *testing.F) {
	f.Add(awsStream)
	f.Add(awsFrame(`{"message":"Too many"}`, ":message-type", "exception", ":exception-type", "throttlingException"))
	f.Add(awsStream[:40])
	f.Fuzz(func(t *testing.T, body []byte) {
		whole, wholeErr := readAWS(bytes.NewReader(body))
		bytewise, bytewiseErr := readAWS(iotest.OneByteReader(bytes.NewReader(body)))
		require.Equal(t, whole, bytewise)
		require.Equal(t, wholeErr.Error(), bytewiseErr.Error())
	})
}

func BenchmarkAWSEvents(b *testing.B) {
	body := bytes.Repeat(awsEvent("contentBlockDelta",
		`{"contentBlockIndex":0,"delta":{"text":" word"},"p":"abcdefgh"}`), 1000)
	v, r := new(awsEvents), new(bytes.Reader)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(body)
		v.Reset(r)
		for {
			if _, err := v.Next(); err != nil {
				break
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
}
