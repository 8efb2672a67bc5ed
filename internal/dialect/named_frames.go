package dialect

import "github.com/websopy/relay/internal/sse"

// namedFrames are the frames of responses whose events have a name, which is the type in their data as well, as those
// of OpenAI's Responses and Anthropic's Messages. A chunk makes several, and the last one tells its position.
type namedFrames struct {
	Response
	framed bool // a frame of this chunk is not ended yet
}

// event ends the frame before it and begins another, up to the further members of its data.
func (f *namedFrames) event(dst []byte, typ string) []byte {
	if f.framed {
		dst = sse.AppendEnd(dst)
	}
	f.framed = true
	dst = sse.AppendData(append(append(append(dst, "event: "...), typ...), '\n'))
	return append(append(append(dst, `{"type":"`...), typ...), '"')
}

// end ends the last frame of a chunk.
func (f *namedFrames) end(dst []byte, seq uint64) []byte {
	f.framed = false
	return f.appendFrameEnd(dst, seq)
}
