package upstreamtest

import (
	"encoding/binary"
	"hash/crc32"
)

// AWSFrame is a frame of Amazon's event streams: a payload with string headers, given as names and values.
func AWSFrame(payload string, headers ...string) string {
	var h []byte
	for i := 0; i < len(headers); i += 2 {
		h = append(append(h, byte(len(headers[i]))), headers[i]...)
		h = append(binary.BigEndian.AppendUint16(append(h, 7), uint16(len(headers[i+1]))), headers[i+1]...)
	}
	return RawAWSFrame(string(h), payload)
}

// RawAWSFrame is a frame whose headers are laid out already.
func RawAWSFrame(headers, payload string) string {
	f := binary.BigEndian.AppendUint32(nil, uint32(16+len(headers)+len(payload)))
	f = binary.BigEndian.AppendUint32(f, uint32(len(headers)))
	f = binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f))
	f = append(append(f, headers...), payload...)
	return string(binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f)))
}

// AWSEvent is a frame with an event.
func AWSEvent(typ, payload string) string {
	return AWSFrame(payload, ":message-type", "event", ":content-type", "application/json", ":event-type", typ)
}
