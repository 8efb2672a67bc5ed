package sse

import (
	"strconv"
	"time"
)

// AppendData appends the beginning of a frame's data line. What follows must not contain a line break.
func AppendData(dst []byte) []byte { return append(dst, "data: "...) }

// AppendID appends the beginning of a frame's id line, behind its data: some readers store an id as
// soon as they read it, and a cut behind an id that came first would lose the data. What follows must
// not contain a line break.
func AppendID(dst []byte) []byte { return append(dst, "\nid: "...) }

// AppendRetry appends a frame's retry line: how long clients wait before they connect again. It too
// comes behind the data.
func AppendRetry(dst []byte, wait time.Duration) []byte {
	return strconv.AppendInt(append(dst, "\nretry: "...), wait.Milliseconds(), 10)
}

// AppendEnd ends the frame that AppendData began.
func AppendEnd(dst []byte) []byte { return append(dst, "\n\n"...) }
