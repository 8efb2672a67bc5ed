package sse

// AppendData appends the beginning of a frame's data line. What follows must not contain a line break.
func AppendData(dst []byte) []byte { return append(dst, "data: "...) }

// AppendEnd ends the frame that AppendData began.
func AppendEnd(dst []byte) []byte { return append(dst, "\n\n"...) }
