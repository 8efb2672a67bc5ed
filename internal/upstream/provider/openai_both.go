package provider

import (
	"cmp"
	"context"
	"iter"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/format"
)

// newBoth returns an upstream of both of OpenAI's formats. A request that the kind's own can't carry goes by the
// other: with newer models tools need Responses, which has no stop sequences and no seed.
func newBoth(o Options, k *Kind) *openaiBoth {
	b := &openaiBoth{preferred: newClient(o, k, k.Wire), other: newClient(o, k, *k.Second)}
	b.other.transport = b.preferred.transport
	return b
}

type openaiBoth struct{ preferred, other *client }

// Stream implements Streamer.
func (b *openaiBoth) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	at, err := b.preferred.endpointFor(cmp.Or(req.Model, b.preferred.Model))
	if err != nil { // which the request will say again
		return b.preferred.Stream(ctx, req)
	}
	_, speaksResponses := b.preferred.wire.Format.(format.Responses)
	switch {
	case speaksResponses && at.target.NeedsChat(req):
		return b.other.Stream(ctx, format.ChatRequest(req))
	case !speaksResponses && at.target.NeedsResponses(req):
		return b.other.Stream(ctx, format.ResponsesRequest(req))
	}
	return b.preferred.Stream(ctx, req)
}
