import { APIError, StreamError, StreamInterruptedError } from '@websopy/sdk'
import { expect, test } from 'vitest'
import {
  clientFor,
  consume,
  expectText,
  messages,
  noBackoff,
  record,
  textOf,
  watchTimers,
} from './helpers.js'
import { content, done, type Exchange, failure, serve } from './server.js'

const sid = 'b3f1c0de'
const at = (seq: number, frame: object) => ({ ...frame, $id: `${sid}.${seq}` })
const start = at(1, { type: 'start', id: sid })
const resumable = { 'x-stream-id': sid }

/** Sends frames and then breaks off. */
const cut =
  (...frames: (object | string)[]) =>
  async (exchange: Exchange) => {
    await exchange.stream(resumable).frames(...frames)
    exchange.reset()
  }

const complete =
  (...frames: (object | string)[]) =>
  async (exchange: Exchange) => {
    await exchange.stream(resumable).frames(...frames)
    exchange.end()
  }

test('a broken connection cannot be noticed: nothing lost, nothing doubled', async () => {
  noBackoff()
  const { url, seen } = await serve(
    cut(start, at(2, content('a')), at(3, content('b'))),
    // What was received before may come again.
    cut(at(2, content('a')), at(3, content('b')), at(4, content('c'))),
    complete(at(5, content('d')), at(6, done)),
  )
  const stream = await clientFor(url).ai.chatStream({ messages, resumable: true })
  const { events, ended } = record(stream)
  await expectText(stream, 'abcd')
  await ended
  expect(events).toEqual(['a', 'b', 'c', 'd', 'done', 'end'])
  expect(stream.id).toBe(sid)
  expect(stream.lastEventId).toBe(`${sid}.6`)
  expect(JSON.parse(seen[0]!.body)).toMatchObject({ resumable: true })
  expect(seen.map(({ method, url, headers }) => [method, url, headers['last-event-id']])).toEqual([
    ['POST', '/v1/ai/chat/stream', undefined],
    ['GET', `/api/chat/stream/${sid}`, `${sid}.3`],
    ['GET', `/api/chat/stream/${sid}`, `${sid}.4`],
  ])
})

test('positions are numbers, not strings', async () => {
  noBackoff()
  const { url } = await serve(
    cut(start, at(9, content('a')), at(10, content('b'))),
    complete(at(9, content('a')), at(10, content('b')), at(11, content('c')), at(12, done)),
  )
  await expectText(await clientFor(url).ai.chatStream({ messages, resumable: true }), 'abc')
})

test('a cut between the data and the id of a frame loses nothing', async () => {
  noBackoff()
  const { url, seen } = await serve(
    async (exchange) => {
      await exchange.stream(resumable).frames(start, at(2, content('a')))
      await exchange.raw(`data: ${JSON.stringify(content('b'))}\n`)
      exchange.reset()
    },
    complete(at(3, content('b')), at(4, done)),
  )
  await expectText(await clientFor(url).ai.chatStream({ messages, resumable: true }), 'ab')
  expect(seen[1]?.headers['last-event-id']).toBe(`${sid}.2`)
})

test('a stream that breaks before its first chunk is resumed, not asked for again', async () => {
  noBackoff()
  const { url, seen } = await serve(cut({ type: 'ping' }), complete(start, at(2, content('a')), at(3, done)))
  await expectText(await clientFor(url).ai.chatStream({ messages, resumable: true }), 'a')
  expect(seen.map(({ method }) => method)).toEqual(['POST', 'GET'])
  expect(seen[1]?.headers['last-event-id']).toBeUndefined()
})

test('where the header is hidden the start frame tells the id', async () => {
  noBackoff()
  const { url, seen } = await serve(
    async (exchange) => {
      await exchange.stream().frames(start, at(2, content('a')))
      exchange.reset()
    },
    complete(at(3, done)),
  )
  await expectText(await clientFor(url).ai.chatStream({ messages, resumable: true }), 'a')
  expect(seen[1]?.url).toBe(`/api/chat/stream/${sid}`)
})

test('a silent connection is left and the stream resumed', async () => {
  noBackoff()
  let closed: Promise<unknown> | undefined
  const { url } = await serve(
    (exchange) => {
      closed = exchange.closed
      return exchange.stream(resumable).frames(start, at(2, content('a')))
    },
    complete(at(3, content('b')), at(4, done)),
  )
  const stream = await clientFor(url, { idleTimeout: 200 }).ai.chatStream({ messages, resumable: true })
  await expectText(stream, 'ab')
  await closed
})

test('attempts count anew on progress', async () => {
  noBackoff()
  const cuts = Array.from({ length: 12 }, (_, i) => cut(at(i + 2, content('x'))))
  const { url, seen } = await serve(cut(start), ...cuts, complete(at(14, done)))
  await expectText(
    await clientFor(url, { maxRetries: 1 }).ai.chatStream({ messages, resumable: true }),
    'x'.repeat(12),
  )
  expect(seen).toHaveLength(14)
})

test('without progress it gives up, with the text so far', async () => {
  noBackoff()
  const timers = watchTimers()
  const { url, seen } = await serve(cut(start, at(2, content('a'))), cut())
  const { chunks, error } = await consume(await clientFor(url).ai.chatStream({ messages, resumable: true }))
  expect(textOf(chunks)).toBe('a')
  expect(error).toBeInstanceOf(StreamInterruptedError)
  expect(error).toMatchObject({ partial: 'a' })
  expect(seen).toHaveLength(4)
  expect(timers.left()).toBe(0)
})

test.each([
  [404, 'stream_not_found'],
  [410, 'cursor_expired'],
  [401, 'unauthorized'],
])('a stream that cannot be resumed (%i) is interrupted, and the cause says why', async (status, code) => {
  noBackoff()
  const { url, seen } = await serve(cut(start, at(2, content('a'))), (exchange) =>
    exchange.json(status, { type: 'error', error: 'Gone', code, retryable: false }),
  )
  const { error } = await consume(await clientFor(url).ai.chatStream({ messages, resumable: true }))
  expect(error).toBeInstanceOf(StreamInterruptedError)
  expect(error).toMatchObject({ partial: 'a', cause: { status, code } })
  expect(seen).toHaveLength(2)
})

test('a busy server is asked again', async () => {
  noBackoff()
  const { url } = await serve(
    cut(start, at(2, content('a'))),
    (exchange) => exchange.json(503, {}),
    (exchange) => exchange.reset(),
    complete(at(3, content('b')), at(4, done)),
  )
  await expectText(await clientFor(url).ai.chatStream({ messages, resumable: true }), 'ab')
})

test('an error frame is final for a resumable stream too', async () => {
  const { url, seen } = await serve(complete(start, at(2, content('a')), at(3, failure)))
  const { error } = await consume(await clientFor(url).ai.chatStream({ messages, resumable: true }))
  expect(error).toBeInstanceOf(StreamError)
  expect(seen).toHaveLength(1)
})

test('resumeStream picks up a stream from its beginning, or after a position', async () => {
  const all = [start, at(2, content('a')), at(3, content('b')), at(4, done)]
  const { url, seen } = await serve(complete(...all), complete(...all.slice(2)))
  const { ai } = clientFor(url)
  await expectText(await ai.resumeStream(sid), 'ab')
  await expectText(await ai.resumeStream(sid, { lastEventId: `${sid}.2` }), 'b')
  expect(seen.map(({ method, headers }) => [method, headers['last-event-id']])).toEqual([
    ['GET', undefined],
    ['GET', `${sid}.2`],
  ])
})

test('a position at the end is a stream that is complete', async () => {
  const { url } = await serve((exchange) => exchange.response.writeHead(204).end())
  const stream = await clientFor(url).ai.resumeStream(sid, { lastEventId: `${sid}.9` })
  expect(await consume(stream)).toEqual({ chunks: [], error: undefined })
})

test('resumeStream rejects when the server has the stream no more', async () => {
  const { url } = await serve((exchange) =>
    exchange.json(404, { error: 'No such stream', code: 'stream_not_found' }),
  )
  await expect(clientFor(url).ai.resumeStream('a/b')).rejects.toBeInstanceOf(APIError)
})

test('an id cannot lead to another path', async () => {
  const { url, seen } = await serve(complete(at(2, done)))
  await (await clientFor(url).ai.resumeStream('../x?y')).text()
  expect(seen[0]?.url).toBe('/api/chat/stream/..%2Fx%3Fy')
})

test('stop ends a resumable stream here at once, and on the server', async () => {
  const { url, seen } = await serve(
    (exchange) => exchange.stream(resumable).frames(start, at(2, content('a'))),
    (exchange) => exchange.response.writeHead(202).end(),
  )
  const stream = await clientFor(url).ai.chatStream({ messages, resumable: true })
  const chunks = []
  let stopped: Promise<void> | undefined
  for await (const chunk of stream) {
    chunks.push(chunk)
    stopped ??= stream.stop()
  }
  expect(chunks).toEqual([content('a'), { type: 'done', finishReason: 'stopped' }])
  await stopped
  expect(seen[1]).toMatchObject({ method: 'POST', url: `/api/chat/stream/${sid}/stop` })
})

test('stop ends a plain stream by closing its connection', async () => {
  let closed: Promise<unknown> | undefined
  const { url, seen } = await serve((exchange) => {
    closed = exchange.closed
    return exchange.stream().frames(content('a'))
  })
  const stream = await clientFor(url).ai.chatStream({ messages })
  const { events, ended } = record(stream)
  stream.once('data', () => void stream.stop())
  await ended
  expect(events).toEqual(['a', 'done', 'end'])
  await closed
  await stream.stop()
  expect(seen).toHaveLength(1)
})

test('stop rejects when the server cannot be told', async () => {
  const { url } = await serve(
    (exchange) => exchange.stream(resumable).frames(start),
    (exchange) => exchange.json(403, { error: 'No', code: 'forbidden' }),
  )
  const stream = await clientFor(url).ai.chatStream({ messages, resumable: true })
  await expect(stream.stop()).rejects.toMatchObject({ code: 'forbidden' })
  await expectText(stream, '')
})
