import { APIError, StreamError, StreamInterruptedError } from '@websopy/sdk'
import { expect, onTestFinished, test, vi } from 'vitest'
import {
  clientFor,
  consume,
  eventually,
  expectText,
  holdTimers,
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

test('a key that needs the network that broke is asked for again', async () => {
  noBackoff()
  const { url, seen } = await serve(
    cut(start, at(2, content('a'))),
    complete(at(3, content('b')), at(4, done)),
  )
  let asked = 0
  const apiKey = async () => {
    if (asked++ === 1) throw new TypeError('fetch failed')
    return 'k'
  }
  await expectText(await clientFor(url, { apiKey }).ai.chatStream({ messages, resumable: true }), 'ab')
  expect(seen.map(({ method }) => method)).toEqual(['POST', 'GET'])
  expect(asked).toBe(3)
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
  const timers = holdTimers()
  let closed: Promise<unknown> | undefined
  const { url } = await serve(
    (exchange) => {
      closed = exchange.closed
      return exchange.stream(resumable).frames(start, at(2, content('a')))
    },
    complete(at(3, content('b')), at(4, done)),
  )
  const stream = await clientFor(url, { idleTimeout: 200 }).ai.chatStream({ messages, resumable: true })
  stream.on(
    'reconnecting',
    () => void eventually(() => expect(timers.left()).toContain(0)).then(() => timers.pass(0)),
  )
  const chunks = stream[Symbol.asyncIterator]()
  expect((await chunks.next()).value).toEqual(content('a'))
  const next = chunks.next()
  await eventually(() => expect(timers.left()).toContain(200))
  timers.pass(200)
  expect((await next).value).toEqual(content('b'))
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

test('it goes on trying as long as the relay keeps the stream, and says so', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.01)
  const lasting = at(1, { type: 'start', id: sid, graceMs: 60_000, retentionMs: 600_000 })
  const tries = Array.from({ length: 9 }, (_, i) =>
    i % 2 ? cut() : (exchange: Exchange) => exchange.json(502, {}),
  )
  const { url, seen } = await serve(
    cut(lasting, at(2, content('a'))),
    ...tries,
    complete(at(3, content('b')), at(4, done)),
  )
  const stream = await clientFor(url).ai.chatStream({ messages, resumable: true })
  const { events, ended } = record(stream)
  stream.on('reconnecting', ({ name }) => events.push(`reconnecting after ${name}`))
  stream.on('reconnected', () => events.push('reconnected'))
  await ended
  expect(seen).toHaveLength(11)
  expect(events[1]).toBe('reconnecting after ConnectionError')
  expect(events.slice(-4)).toEqual(['reconnected', 'b', 'done', 'end'])
})

test('when the relay keeps it no longer it gives up, with the text so far', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.02)
  const timers = watchTimers()
  const short = at(1, { type: 'start', id: sid, graceMs: 50, retentionMs: 50 })
  const { url } = await serve(cut(short, at(2, content('a'))), cut())
  const { chunks, error } = await consume(await clientFor(url).ai.chatStream({ messages, resumable: true }))
  expect(textOf(chunks)).toBe('a')
  expect(error).toBeInstanceOf(StreamInterruptedError)
  expect(error).toMatchObject({ partial: 'a' })
  expect(timers.left()).toBe(0)
})

test('a wait that the stream would not outlive is told, not waited for', async () => {
  noBackoff()
  const lasting = at(1, { type: 'start', id: sid, graceMs: 60_000, retentionMs: 600_000 })
  const { url, seen } = await serve(cut(lasting, at(2, content('a'))), (exchange) =>
    exchange.json(429, {}, { 'retry-after': '3600' }),
  )
  const { error } = await consume(await clientFor(url).ai.chatStream({ messages, resumable: true }))
  expect(error).toMatchObject({ partial: 'a', cause: { status: 429, retryAfter: 3600 } })
  expect(seen).toHaveLength(2)
})

test('without retries there are none', async () => {
  const { url, seen } = await serve(cut(start, at(2, content('a'))), complete(at(3, done)))
  const client = clientFor(url, { maxRetries: 0 })
  const { error } = await consume(await client.ai.chatStream({ messages, resumable: true }))
  expect(error).toBeInstanceOf(StreamInterruptedError)
  expect(seen).toHaveLength(1)
})

test("the server's wish to wait is obeyed", async () => {
  noBackoff()
  const { delays } = watchTimers()
  const { url } = await serve(
    async (exchange) => {
      await exchange.stream(resumable).frames(start, at(2, content('a')))
      await exchange.raw('data: {"type":"ping"}\nretry: 321\n\n')
      exchange.reset()
    },
    complete(at(3, done)),
  )
  await expectText(await clientFor(url).ai.chatStream({ messages, resumable: true }), 'a')
  expect(delays).toContain(321)
})

test('a network that is back is noticed at once', async () => {
  // No wait ends by itself.
  holdTimers()
  const page = new EventTarget()
  for (const on of ['addEventListener', 'removeEventListener'] as const)
    vi.stubGlobal(on, page[on].bind(page))
  onTestFinished(() => void vi.unstubAllGlobals())
  const { url } = await serve(
    cut(start, at(2, content('a'))),
    cut(),
    cut(),
    cut(),
    cut(),
    complete(at(3, done)),
  )
  const stream = await clientFor(url).ai.chatStream({ messages, resumable: true })
  stream.on('reconnecting', () => queueMicrotask(() => page.dispatchEvent(new Event('online'))))
  await expectText(stream, 'a')
})

test("ids that are not the relay's lose no chunk", async () => {
  const { url } = await serve(
    complete(
      start,
      { ...content('a'), $id: '7' },
      { ...content('b'), $id: '7' },
      { ...content('c'), $id: '3' },
      at(2, content('d')),
      at(2, content('twice')),
      { ...content('e'), $id: 'other.1' },
      at(3, done),
    ),
  )
  await expectText(await clientFor(url).ai.chatStream({ messages, resumable: true }), 'abcde')
})

test('a stream is passed on with its ids, pings and errors, and picked up through the route', async () => {
  const error = { ...failure, phase: 'idle', retryAfter: 3 }
  const frames = [start, at(2, content('a')), { type: 'ping' }, at(3, error)]
  const { url, seen } = await serve(complete(...frames))
  const stream = await clientFor(url).ai.chatStream({
    messages,
    idempotencyKey: 'k'.repeat(32),
    lastEventId: `${sid}.0`,
  })
  const text = await new Response(stream.toReadableStream()).text()
  const frame = ({ $id, ...chunk }: { $id?: string; type?: string }) =>
    `data: ${JSON.stringify(chunk)}\n${$id ? `id: ${$id}\n` : ''}\n`
  expect(text).toBe([{ type: 'ping' }, ...frames].map(frame).join(''))
  expect(seen[0]?.headers).toMatchObject({
    'idempotency-key': 'k'.repeat(32),
    'last-event-id': `${sid}.0`,
  })
})

test('a stream that is passed on begins before the model does', async () => {
  const { url } = await serve((exchange) => exchange.stream())
  const stream = await clientFor(url).ai.chatStream({ messages })
  const reader = stream.toReadableStream().getReader()
  expect(new TextDecoder().decode((await reader.read()).value)).toBe('data: {"type":"ping"}\n\n')
  await reader.cancel()
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
