import { expect, test } from 'vitest'
import { eventDecoder } from '../src/sse.js'

const decode = (...pieces: (string | Uint8Array)[]) => {
  const decoder = eventDecoder(() => {})
  const utf8 = new TextEncoder()
  return pieces.flatMap((piece) => [...decoder(typeof piece === 'string' ? utf8.encode(piece) : piece)])
}

test.each([
  ['LF', 'data: a\n\ndata: b\n\n', ['a', 'b']],
  ['CRLF', 'data: a\r\n\r\ndata: b\r\n\r\n', ['a', 'b']],
  ['CR', 'data: a\r\rdata: b\r\r', ['a', 'b']],
  ['a line end of each kind', 'data: a\r\n\ndata: b\r\r\n', ['a', 'b']],
  ['a byte order mark', '\u{feff}data: a\n\n', ['a']],
  ['no space after the colon', 'data:a\n\n', ['a']],
  ['only the first space taken off', 'data:  a\n\n', [' a']],
  ['several data lines', 'data: a\ndata: b\n\n', ['a\nb']],
  ['a data line without a colon', 'data\n\n', ['']],
  ['colons in the value', 'data: {"a":"b: c"}\n\n', ['{"a":"b: c"}']],
  ['comments, also glued to the next event', ': hb\n\n: hb\ndata: a\n\n', ['a']],
  ['fields that nobody knows', 'event: x\nretry: 5\nfoo: bar\ndata: a\n\n', ['a']],
  ['an event without data', 'id: 1\n\ndata: a\n\n', ['a']],
  ['an end of input before the blank line', 'data: a\n\ndata: b\n', ['a']],
])('decodes %s', (_, text, expected) => {
  expect(decode(text).map(({ data }) => data)).toEqual(expected)
})

test('gives the same events however the bytes are split', () => {
  const text = ': hb\r\nretry: 1000\r\ndata: 你好 👋🏽\r\nid: s.1\r\n\r\ndata: é\rid: s.2\r\rdata: x\n\n'
  const bytes = new TextEncoder().encode(text)
  const whole = decode(bytes)
  expect(whole).toEqual([
    { data: '你好 👋🏽', id: 's.1' },
    { data: 'é', id: 's.2' },
    { data: 'x', id: undefined },
  ])
  for (let i = 0; i <= bytes.length; i++) {
    expect(decode(bytes.subarray(0, i), bytes.subarray(i)), `split at ${i}`).toEqual(whole)
  }
  expect(decode(...Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))).toEqual(whole)
})

test('an id goes with its own event only', () => {
  expect(decode('data: a\nid: s.1\n\ndata: [DONE]\n\n')).toEqual([
    { data: 'a', id: 's.1' },
    { data: '[DONE]', id: undefined },
  ])
})

test('an id with a null character is ignored', () => {
  expect(decode('data: a\nid: x\0y\n\n')[0]?.id).toBeUndefined()
})

test('a line that never ends is refused, in time linear to its length', () => {
  const decoder = eventDecoder(() => {})
  const piece = new TextEncoder().encode('x'.repeat(64 * 1024))
  expect(() => {
    for (let i = 0; i < 1700; i++) [...decoder(piece)]
  }).toThrow(expect.objectContaining({ code: 'event_too_large', retryable: false }))
})

test('data lines without end are refused', () => {
  const decoder = eventDecoder(() => {})
  const piece = new TextEncoder().encode(`data: ${'x'.repeat(1024 * 1024)}\n`)
  expect(() => {
    for (let i = 0; i < 110; i++) [...decoder(piece)]
  }).toThrow(expect.objectContaining({ code: 'event_too_large' }))
})
