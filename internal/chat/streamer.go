package chat

import (
	"context"
	"iter"
)

// Streamer answers requests: a provider, a retried one, or a chain of them. What it promises, and what whoever ranges
// over the sequence may rely on, is told here and nowhere else; chattest.Check holds both sides to it.
//
//   - The sequence runs on the caller's goroutine, and is cancelled with ctx. Breaking out of it cancels the request
//     at the provider.
//   - It ends in one of two ways: with a Done chunk, or with an error beside an empty Chunk. Nothing follows either.
//   - All that a chunk points to is lent until the next one is asked for: its text, its tool call, its completion with
//     the usage. To keep any of it, copy it.
//   - A chunk with More promises another one, or the error, before the sequence waits for anything. A Pause keeps such
//     a promise where nothing came of it; before all other chunks it says that the answer is about to begin: the model
//     thinks, or the server is reading the prompt. It promises nothing itself. A Done with More promises that the
//     sequence ends before it waits for anything.
//   - Where chunks have positions (Seq), they rise.
type Streamer interface {
	Stream(ctx context.Context, req *Request) iter.Seq2[Chunk, error]
}
