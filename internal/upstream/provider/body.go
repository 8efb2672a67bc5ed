package provider

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/framing"
	"github.com/websopy/relay/internal/upstream/report"
)

// framingOf finds the framing of a response: f, unless the body has another content type and looks otherwise. Gateways
// give streams all sorts of types, and answer with one whole object where they can't stream.
func framingOf(f *framing.Framing, res *http.Response) (*framing.Framing, error) {
	if err := decompress(res); err != nil {
		return f, err
	}
	typ, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	if typ = strings.ToLower(strings.TrimSpace(typ)); typ == f.ContentType {
		return f, nil
	}
	head, err := readHead(res.Body)
	if err != nil && err != io.EOF {
		return f, &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off", Err: err}
	}
	res.Body = body{io.MultiReader(bytes.NewReader(head), res.Body), res.Body}
	switch begin := trimStart(head); {
	case len(begin) == 0, f == framing.AWSEvents && begin[0] == 0: // a frame of less than 16 MiB
		return f, nil
	case begin[0] == '{' && f == framing.NDJSON && strings.Contains(typ, "json") && typ != "application/json":
		return f, nil
	case begin[0] == '{' || begin[0] == '[':
		return framing.BareJSON, nil
	case looksLikeEvents(begin):
		return framing.EventStream, nil
	}
	page, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	return f, &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider did not answer with a stream",
		Err: errors.New("content type " + strconv.Quote(typ) + ": " + report.Excerpt(page))}
}

// looksLikeEvents reports whether a body begins as an event stream does.
func looksLikeEvents(begin []byte) bool {
	for _, field := range []string{"data", "event", "id", "retry", ":", "error:"} {
		rest, ok := bytes.CutPrefix(begin, []byte(field))
		if ok && (len(rest) == 0 || field[len(field)-1] == ':' || rest[0] == ':') {
			return true
		}
	}
	return false
}

// readHead reads until there are some bytes that tell what a body is.
func readHead(r io.Reader) (head []byte, err error) {
	head = make([]byte, 0, 512)
	for err == nil && len(head) < cap(head) && len(trimStart(head)) < len("retry:") {
		var n int
		n, err = r.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
	}
	return head, err
}

// trimStart takes off what may stand before anything else.
func trimStart(head []byte) []byte { return bytes.TrimLeft(head, " \t\r\n\ufeff") }

// body reads from one and closes another.
type body struct {
	io.Reader
	io.Closer
}

// decompress undoes the encoding of a body that was to have none.
func decompress(res *http.Response) error {
	switch encoding := strings.ToLower(strings.TrimSpace(res.Header.Get("Content-Encoding"))); encoding {
	case "", "identity", "none", "utf-8":
	case "gzip", "x-gzip":
		res.Body = &unzip{compressed: res.Body, open: newGunzip}
	case "deflate":
		res.Body = &unzip{compressed: res.Body, open: newInflater}
	default:
		return &chat.Error{Code: chat.UpstreamMalformed,
			Message: "the provider compressed its answer, which it was asked not to do",
			Err:     errors.New("content encoding " + strconv.Quote(encoding))}
	}
	return nil
}

// unzip decompresses as it is read: what the provider has flushed can be read at once. It holds a window of 32 KiB and
// two buffers, however much it reads.
type unzip struct {
	compressed io.ReadCloser
	open       func(io.Reader) (io.Reader, error)
	plain      io.Reader
}

func (u *unzip) Read(p []byte) (int, error) {
	if u.plain == nil { // not earlier: the header of the format has to be waited for
		plain, err := u.open(u.compressed)
		if err != nil {
			return 0, err
		}
		u.plain = plain
	}
	return u.plain.Read(p)
}

func (u *unzip) Close() error { return u.compressed.Close() }

// waitAsTold adds the wait that a response's headers ask for to an error in its body that names none.
func waitAsTold(err error, h http.Header) error {
	if e, ok := errors.AsType[*chat.Error](err); ok && e.RetryAfter == 0 &&
		(e.Code == chat.UpstreamRateLimited || e.Code == chat.UpstreamError) {
		e.RetryAfter = retryAfter(h, time.Now())
	}
	return err
}

// newGunzip reads gzip, or what only claims to be.
func newGunzip(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	if head, err := buffered.Peek(2); err != nil || head[0] != 0x1f || head[1] != 0x8b {
		return buffered, nil
	}
	return gzip.NewReader(buffered)
}

// newInflater reads HTTP's deflate, which is zlib's format, or with some servers the data without its header.
func newInflater(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	head, err := buffered.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(buffered)
	}
	return flate.NewReader(buffered), nil
}
