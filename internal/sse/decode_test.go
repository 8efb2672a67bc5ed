package sse_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/sse"
)

// event is an sse.Event that outlives the decoder's buffer.
type event struct {
	typ, data, stray string
	partial          bool
}

func decode(t testing.TB, r io.Reader, maxEvent int) ([]event, error) {
	t.Helper()
	return rest(t, sse.NewDecoder(r, maxEvent))
}

func rest(t testing.TB, d *sse.Decoder) ([]event, error) {
	t.Helper()
	var out []event
	for {
		ev, err := d.Next()
		if err != nil {
			again, err2 := d.Next()
			require.Equal(t, err, err2, "an ended decoder stays ended")
			require.Empty(t, again)
			return out, err
		}
		out = append(out, event{string(ev.Type), string(ev.Data), string(ev.Stray), ev.Partial})
	}
}

var streams = map[string]struct {
	in   string
	want []event
}{
	"an event is dispatched by its blank line": {"data: a\n\ndata: b\n\n", []event{{data: "a"}, {data: "b"}}},
	"lines may end in CRLF": {"data: a\r\n\r\ndata: b\r\n\r\n",
		[]event{{data: "a"}, {data: "b"}}},
	"lines may end in CR": {"data: a\r\rdata: b\r\r", []event{{data: "a"}, {data: "b"}}},
	"lines of one event may end in CRLF": {"event: x\r\ndata: a\r\ndata: b\r\nid: 7\r\n\r\n",
		[]event{{typ: "x", data: "a\nb"}}},
	"line ends may be mixed": {"data: a\r\n\ndata: b\n\rdata: c\r\r\n",
		[]event{{data: "a"}, {data: "b"}, {data: "c"}}},
	"one byte order mark is dropped": {"\xef\xbb\xbfdata: a\n\n", []event{{data: "a"}}},
	"a second byte order mark is no field": {"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n",
		[]event{{stray: "\xef\xbb\xbfdata: a"}}},
	"comments are consumed": {": hi\n\n:\n\n: OPENROUTER PROCESSING\n\ndata: a\n: in between\n\n",
		[]event{{data: "a"}}},
	"one space after the colon is not the value": {"data:a\n\ndata:  b\n\n", []event{{data: "a"}, {data: " b"}}},
	"a field without a colon is empty":           {"data\n\ndata\ndata\n\n", []event{{data: ""}, {data: "\n"}}},
	"data lines join":                            {"data: a\ndata:\ndata: b\n\n", []event{{data: "a\n\nb"}}},
	"an event without data is not dispatched": {"event: ping\n\nid: 3\n\nretry: 5\n\ndata: a\n\n",
		[]event{{data: "a"}}},
	"nor is one after an event with data": {"data: a\n\n: hi\n\nevent: ping\n\ndata: b\n\nid: 3\n\n",
		[]event{{data: "a"}, {data: "b"}}},
	"a type belongs to its event": {"id: 7\nevent: message_stop\ndata: {}\n\ndata: x\n\n",
		[]event{{typ: "message_stop", data: "{}"}, {data: "x"}}},
	"a last event may lack its blank line": {"data: a\n\ndata: b\n",
		[]event{{data: "a"}, {data: "b", partial: true}}},
	"a last line may lack its end":           {"data: a\n\ndata: b", []event{{data: "a"}, {data: "b", partial: true}}},
	"a last line may belong to an event":     {"data: a\nid: 7", []event{{data: "a", partial: true}}},
	"a last event without data says nothing": {"data: a\n\nevent: ping\nid: 7", []event{{data: "a"}}},
	"an error field is kept aside": {"data: a\n\nerror: {\"code\": 500}\n\n",
		[]event{{data: "a"}, {stray: `error: {"code": 500}`}}},
	"a bare object is kept aside": {"data: a\n\n{\n  \"error\": 1\n}\n",
		[]event{{data: "a"}, {stray: "{\n  \"error\": 1\n}", partial: true}}},
	"text is not touched":           {"data: 量子 \U0001f600 \x00 \xff\n\n", []event{{data: "量子 \U0001f600 \x00 \xff"}}},
	"a field's name is exact":       {"Data: a\n\n data: b\n\n", []event{{stray: "Data: a"}, {stray: " data: b"}}},
	"blank lines alone say nothing": {"\n\n\r\n\r\r\n", nil},
	"nothing says nothing":          {"", nil},
}

func TestDecode(t *testing.T) {
	for name, tc := range streams {
		t.Run(name, func(t *testing.T) {
			got, err := decode(t, strings.NewReader(tc.in), 0)
			require.Equal(t, io.EOF, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestReadsMayEndAnywhere(t *testing.T) {
	for name, tc := range streams {
		t.Run(name, func(t *testing.T) {
			for i := range len(tc.in) {
				two := io.MultiReader(strings.NewReader(tc.in[:i]), strings.NewReader(tc.in[i:]))
				got, err := decode(t, two, 0)
				require.Equal(t, io.EOF, err)
				require.Equal(t, tc.want, got, "split at byte %d", i)
			}
			got, err := decode(t, iotest.OneByteReader(strings.NewReader(tc.in)), 0)
			require.Equal(t, io.EOF, err)
			require.Equal(t, tc.want, got, "byte by byte")
		})
	}
}

func TestADecoderThatIsResetKnowsNothingOfTheStreamBefore(t *testing.T) {
	for before, first := range streams {
		for name, second := range streams {
			for _, reads := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
				for begun := range 3 { // events before it is reset
					d := sse.NewDecoder(reads(strings.NewReader(first.in)), 0)
					for range begun {
						_, _ = d.Next()
					}
					d.Reset(strings.NewReader(second.in))
					require.False(t, d.Ended())
					got, err := rest(t, d)
					require.Equal(t, io.EOF, err)
					require.Equal(t, second.want, got, "%s, after %s", name, before)
				}
			}
		}
	}
}

func TestAnEventThatEndsInCRIsNotHeldBackForAnLF(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { _, _ = pw.Write([]byte("data: a\r\r")) }() // and then silence
	ev, err := sse.NewDecoder(pr, 0).Next()
	require.NoError(t, err)
	require.Equal(t, "a", string(ev.Data))
}

func TestEventsHaveALimit(t *testing.T) {
	const limit = 64 << 10
	frame := func(n int) string { return "data: " + strings.Repeat("x", n-8) + "\n\n" }

	got, err := decode(t, strings.NewReader(frame(limit)+frame(limit)), limit)
	require.Equal(t, io.EOF, err)
	require.Len(t, got, 2)

	_, err = decode(t, strings.NewReader(frame(limit+1)), limit)
	require.Equal(t, sse.ErrTooLong, err)

	_, err = decode(t, strings.NewReader(strings.Repeat("data: x\n", limit)), limit)
	require.Equal(t, sse.ErrTooLong, err, "many short lines are an event, too")

	_, err = decode(t, strings.NewReader(strings.Repeat("x", limit+1)), limit)
	require.Equal(t, sse.ErrTooLong, err, "an endless line")
}

func TestALongLineIsFine(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 13<<20/16)
	got, err := decode(t, strings.NewReader("data: "+long+"\n\ndata: b\n\n"), 0)
	require.Equal(t, io.EOF, err)
	require.Len(t, got, 2)
	require.True(t, got[0].data == long)
}

func TestAReadErrorDropsTheUnfinishedEvent(t *testing.T) {
	broken := errors.New("connection reset")
	r := io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken))
	got, err := decode(t, r, 0)
	require.Equal(t, broken, err)
	require.Equal(t, []event{{data: "a"}}, got)
}

func TestAReaderThatNeverReadsIsNotAskedForEver(t *testing.T) {
	_, err := decode(t, readerFunc(func([]byte) (int, error) { return 0, nil }), 0)
	require.Equal(t, io.ErrNoProgress, err)
}

func TestBufferedTellsWhetherNextWouldRead(t *testing.T) {
	reads := []string{"data: a\n\ndata: b\n\ndata: c", "\n\n"}
	d := sse.NewDecoder(readerFunc(func(p []byte) (int, error) {
		if len(reads) == 0 {
			return 0, io.EOF
		}
		n := copy(p, reads[0])
		reads = reads[1:]
		return n, nil
	}), 0)
	require.False(t, d.Buffered())
	for _, want := range []struct {
		data string
		more bool
	}{{"a", true}, {"b", false}, {"c", false}} {
		ev, err := d.Next()
		require.NoError(t, err)
		require.Equal(t, want.more, d.Buffered())
		require.Equal(t, want.data, string(ev.Data), "Buffered leaves the event valid")
	}
}

func TestDecodingDoesNotAllocate(t *testing.T) {
	frame := []byte(": comment\nevent: x\ndata: {\"a\": 1}\n\n")
	endless := readerFunc(func(p []byte) (int, error) {
		n := 0
		for len(p)-n >= len(frame) {
			n += copy(p[n:], frame)
		}
		return n, nil
	})
	d := sse.NewDecoder(endless, 0)
	allocs := testing.AllocsPerRun(1000, func() {
		if ev, err := d.Next(); err != nil || len(ev.Data) == 0 {
			t.Fatal(err)
		}
	})
	require.Zero(t, allocs)
}

// FuzzDecode holds the decoder to its promises on any input: however the bytes arrive the events are
// the same, and nothing is invented.
func FuzzDecode(f *testing.F) {
	for _, tc := range streams {
		f.Add([]byte(tc.in), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		const limit = 8 << 10
		whole, err := decode(t, bytes.NewReader(in), limit)
		pieces, err2 := decode(t, &stepReader{in, int(step)%7 + 1}, limit)
		require.Equal(t, err, err2)
		require.Equal(t, whole, pieces)
		total := 0
		for _, ev := range whole {
			total += len(ev.data) + len(ev.typ) + len(ev.stray)
		}
		require.LessOrEqual(t, total, len(in))
	})
}

type stepReader struct {
	in   []byte
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.in[:min(r.step, len(r.in))])
	r.in = r.in[n:]
	return n, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func BenchmarkDecode(b *testing.B) {
	for name, frame := range map[string]string{
		"data alone": `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,` +
			`"delta":{"content":" token"}}]}` + "\n\n",
		"a type and data": "event: content_block_delta\n" +
			`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}` + "\n\n",
	} {
		b.Run(name, func(b *testing.B) {
			in := strings.NewReader(strings.Repeat(frame, 1000))
			d := sse.NewDecoder(in, 0)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Next(); err != nil {
					in.Seek(0, io.SeekStart)
					d.Reset(in)
				}
			}
		})
	}
}

// Lines may end in CR alone, and then there may be no LF in megabytes. It is not looked for with each line.
func TestLinesThatEndInCRTakeNoLongerThanTheirSize(t *testing.T) {
	const lines = 2 << 20
	body := strings.Repeat("a\r", lines) + "\r"
	began := time.Now()
	ev, err := sse.NewDecoder(strings.NewReader(body), 0).Next()
	require.NoError(t, err)
	require.Len(t, ev.Stray, 2*lines-1)
	require.Less(t, time.Since(began), 4*time.Second, "it took minutes, and takes 0.1 s")
}
