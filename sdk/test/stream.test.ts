import {
  APIError,
  StreamError,
  StreamInterruptedError,
  TimeoutError,
  WebsopyClient,
  WebsopyError,
} from '@websopy/sdk'
import { expect, test, vi } from 'vitest'
import {
  clientFor,
  consume,
  eventually,
  expectText,
  holdTimers,
  messages,
  noBackoff,
  record,
  reports,
  textOf,
  watchTimers,
} from './helpers.js'
import { answer, content, done, type Exchange, failure, serve } from './server.js'

test('sends the request of the contract', async () => {
  const { url, seen } = await serve(answer('Hi'))
  const client = new WebsopyClient({ apiKey: 'k', baseURL: `${url}/`, headers: { 'X-Team': 'a' } })
  await expectText(
    await client.ai.chatStream({ messages, model: 'gpt-4', topP: 0.5, enable_thinking: true }),
    'Hi',
  )

  expect(seen).toHaveLength(1)
  expect(seen[0]).toMatchObject({
    method: 'POST',
    url: '/v1/ai/chat/stream',
    headers: {
      authorization: 'Bearer k',
      'content-type': 'application/json',
      accept: 'text/event-stream',
      'idempotency-key': expect.stringMatching(/^[\w-]{20,}$/),
      'x-team': 'a',
    },
  })
  expect(JSON.parse(seen[0]!.body)).toEqual({
    messages,
    model: 'gpt-4',
    topP: 0.5,
    enable_thinking: true,
    stream: true,
  })
})

test('the key may be a function, asked anew for each request, and headers of the caller win', async () => {
  const { url, seen } = await serve(answer('a'))
  let n = 0
  const client = clientFor(url, { apiKey: async () => `key${++n}` })
  await (await client.ai.chatStream({ messages })).text()
  await (await client.ai.chatStream({ messages })).text()
  const own = clientFor(url, { apiKey: 'k', headers: { Authorization: 'Basic x' } })
  await (await own.ai.chatStream({ messages })).text()
  expect(seen.map(({ headers }) => headers.authorization)).toEqual(['Bearer key1', 'Bearer key2', 'Basic x'])
})

test('gives chunks of every type, and nothing else', async () => {
  const tool = { id: 'c1', name: 'weather', arguments: '{"city":"北京"}' }
  const chunks = [{ type: 'reasoning', content: 'Hm' }, content('Hi'), { type: 'tool_call', tool }, done]
  const { url } = await serve(async (exchange) => {
    await exchange
      .stream()
      .frames({ type: 'ping' }, { type: 'start', id: 's' }, { type: 'novelty', x: 1 }, ...chunks, '[DONE]')
    exchange.end()
  })
  expect(await consume(await clientFor(url).ai.chatStream({ messages }))).toEqual({
    chunks,
    error: undefined,
  })
})

test('chunks arrive one by one, as they are sent', async () => {
  let next = () => {}
  const { url } = await serve(async (exchange) => {
    exchange.stream()
    for (const text of ['a', 'b', 'c']) {
      await exchange.frames(content(text))
      await new Promise<void>((resolve) => {
        next = resolve
      })
    }
    await exchange.frames(done, '[DONE]')
    exchange.end()
  })
  let text = ''
  for await (const chunk of await clientFor(url).ai.chatStream({ messages })) {
    text += chunk.content ?? ''
    next()
  }
  expect(text).toBe('abc')
})

test('a character split between two pieces of the body stays whole', async () => {
  const bytes = new TextEncoder().encode(
    `data: ${JSON.stringify(content('量子👋🏽'))}\r\n\r\ndata: [DONE]\r\n\r\n`,
  )
  for (let i = 24; i < 44; i++) {
    const { url } = await serve(async (exchange) => {
      await exchange.stream().raw(bytes.subarray(0, i))
      await new Promise(setImmediate)
      await exchange.raw(bytes.subarray(i))
      exchange.end()
    })
    await expectText(await clientFor(url).ai.chatStream({ messages }), '量子👋🏽')
  }
})

test.each([
  ['`done` without [DONE], as on GET', [content('a'), done]],
  ['[DONE] without `done`, as from hand-written routes', [content('a'), '[DONE]']],
])('%s completes the answer, even while the connection stays open', async (_, frames) => {
  const { url } = await serve((exchange) => exchange.stream().frames(...frames))
  await expectText(await clientFor(url).ai.chatStream({ messages }), 'a')
})

test('after the end the connection is kept for the next request', async () => {
  const ports: (number | undefined)[] = []
  const { url } = await serve((exchange) => {
    ports.push(exchange.response.socket?.remotePort)
    return answer('a')(exchange)
  })
  const client = clientFor(url)
  await eventually(async () => {
    await (await client.ai.chatStream({ messages })).text()
    expect(new Set(ports).size, 'different connections').toBeLessThan(ports.length)
  })
})

test('after the end a server that keeps sending is left within seconds', async () => {
  const timers = watchTimers()
  let closed: Promise<unknown> | undefined
  const { url } = await serve((exchange) => {
    closed = exchange.closed
    return exchange.stream().frames(done)
  })
  await (await clientFor(url).ai.chatStream({ messages })).text()
  await closed
  await eventually(() => expect(timers.left()).toBe(0))
})

test('an error frame is given, and then the loop throws', async () => {
  const { url } = await serve(async (exchange) => {
    await exchange.stream().frames(content('par'), content('tial'), failure)
    exchange.end()
  })
  const { chunks, error } = await consume(await clientFor(url).ai.chatStream({ messages }))
  expect(chunks).toEqual([content('par'), content('tial'), failure])
  expect(error).toBeInstanceOf(StreamError)
  expect(error).toMatchObject({
    message: 'The provider failed',
    code: 'upstream_error',
    retryable: true,
    requestId: 'r1',
    partial: 'partial',
  })
})

test('a failure reaches a slow loop after the chunks that came before it', async () => {
  const { url } = await serve(async (exchange) => {
    await exchange.stream().frames(content('a'), content('b'), content('c'), failure)
    exchange.end()
  })
  const stream = await clientFor(url).ai.chatStream({ messages })
  const seen: string[] = []
  const loop = async () => {
    for await (const chunk of stream) {
      seen.push(chunk.type === 'content' ? chunk.content : chunk.type)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
  stream.on('data', () => {})
  await expect(loop()).rejects.toBeInstanceOf(StreamError)
  expect(seen).toEqual(['a', 'b', 'c', 'error'])
})

test.each([
  ['an end of the body', 'end' as const],
  ['a reset', 'reset' as const],
])('%s without a terminal is never success', async (_, how) => {
  const { url, seen } = await serve(async (exchange) => {
    await exchange.stream().frames(content('half an '), content('answer'))
    exchange[how]()
  })
  const stream = await clientFor(url).ai.chatStream({ messages })
  const { events, ended } = record(stream)
  const { chunks, error } = await consume(stream)
  expect(textOf(chunks)).toBe('half an answer')
  expect(error).toBeInstanceOf(StreamInterruptedError)
  expect(error).toMatchObject({ partial: 'half an answer', code: 'stream_interrupted', retryable: true })
  await ended
  expect(events).toEqual(['half an ', 'answer', 'StreamInterruptedError', 'end'])
  expect(seen, 'a second answer would be another text').toHaveLength(1)
})

test('a last event without its blank line is no event', async () => {
  noBackoff()
  const { url } = await serve(async (exchange) => {
    await exchange.stream().raw('data: [DONE]\n')
    exchange.end()
  })
  const { error } = await consume(await clientFor(url).ai.chatStream({ messages }))
  expect(error).toBeInstanceOf(StreamInterruptedError)
})

test('a stream that goes silent is a time-out, and pings keep it alive', async () => {
  const timers = holdTimers()
  let exchange: Exchange | undefined
  const { url } = await serve((now) => {
    exchange = now
    return now.stream().frames(content('a'))
  })
  const consumed = consume(await clientFor(url, { idleTimeout: 1000 }).ai.chatStream({ messages }))
  const listening = () => eventually(() => expect(timers.left()).toContain(1000))
  for (let i = 0; i < 4; i++) {
    await listening()
    timers.pass(900)
    await exchange!.frames({ type: 'ping' })
  }
  await listening()
  timers.pass(900)
  await exchange!.frames(content('b'))
  await listening()
  timers.pass(1000)
  const { chunks, error } = await consumed
  expect(textOf(chunks)).toBe('ab')
  expect(error).toBeInstanceOf(TimeoutError)
  expect(error).toMatchObject({ phase: 'idle', partial: 'ab', code: 'timeout' })
  await exchange!.closed
  expect(timers.left()).toEqual([])
})

test('a slow loop is no silence of the server, and holds the server back', async () => {
  const timers = holdTimers()
  const frame = content('x'.repeat(64 * 1024))
  const most = 2000
  let written = 0
  let reading = false
  const { url } = await serve(async (exchange) => {
    exchange.stream()
    for (; written < most && !reading; written++) await exchange.frames(frame)
    await exchange.frames(done, '[DONE]')
    exchange.end()
  })
  const stream = await clientFor(url, { idleTimeout: 1000 }).ai.chatStream({ messages })
  let chunks = 0
  for await (const chunk of stream) {
    if (chunks++ === 0) {
      timers.pass(5000)
      // The server goes on until what lies between it and the loop is full.
      for (let before = -1; before < written; await new Promise((resolve) => setTimeout(resolve, 300)))
        before = written
      expect(written, 'the rest waits in the server').toBeLessThan(most)
      reading = true
    }
    if (chunk.type === 'done') break
  }
  expect(chunks).toBe(written + 1)
})

test('a frame that is not JSON is an error, after the text before it', async () => {
  const { url } = await serve(async (exchange) => {
    await exchange.stream().frames(content('a'), '<html>')
  })
  const { chunks, error } = await consume(await clientFor(url).ai.chatStream({ messages }))
  expect(textOf(chunks)).toBe('a')
  expect(error).toBeInstanceOf(StreamError)
  expect(error).toMatchObject({ code: 'malformed_frame', partial: 'a', retryable: false })
})

test('keep-alives are passed over', async () => {
  const { url } = await serve(async (exchange) => {
    await exchange.stream().raw(': hb\n\ndata\n\ndata:\n\ndata: keep-alive\n\nevent: ping\ndata: {}\n\n')
    await exchange.frames(content('a'), done)
  })
  await expectText(await clientFor(url).ai.chatStream({ messages }), 'a')
})

test('message gives what to append', async () => {
  const tool = { id: 'c', name: 'f', arguments: '{}' }
  const { url } = await serve((exchange) =>
    exchange.stream().frames(content('a'), { type: 'tool_call', tool }, { ...done, state: '1.s' }),
  )
  expect(await (await clientFor(url).ai.chatStream({ messages })).message()).toEqual({
    role: 'assistant',
    content: 'a',
    tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
    state: '1.s',
  })
})

test('frames that are JSON but no objects are ignored', async () => {
  const { url } = await serve((exchange) =>
    exchange.stream().frames('null', '3', '"x"', content('a'), '[DONE]'),
  )
  await expectText(await clientFor(url).ai.chatStream({ messages }), 'a')
})

test('`on` loses nothing, in whatever order one listens', async () => {
  const { url } = await serve(answer('a', 'b'))
  const stream = await clientFor(url).ai.chatStream({ messages })
  const { events, ended } = record(stream)
  await ended
  expect(events).toEqual(['a', 'b', 'done', 'end'])
})

test('a late listener gets the whole stream, and `end` once', async () => {
  const { url } = await serve(answer('a', 'b'))
  const stream = await clientFor(url).ai.chatStream({ messages })
  await stream.text()
  const { events, ended } = record(stream)
  await ended
  await new Promise(setImmediate)
  expect(events).toEqual(['a', 'b', 'done', 'end'])
})

test('every consumer gets every chunk, each at its own pace', async () => {
  const { url } = await serve(answer('a', 'b', 'c'))
  const stream = await clientFor(url).ai.chatStream({ messages })
  const { events, ended } = record(stream)
  const [one, two, text] = await Promise.all([consume(stream), consume(stream), stream.text()])
  await ended
  expect(textOf(one.chunks)).toBe('abc')
  expect(two).toEqual(one)
  expect(text).toBe('abc')
  expect(events).toEqual(['a', 'b', 'c', 'done', 'end'])
})

test('`once` is called once, and `off` no more', async () => {
  const { url } = await serve(answer('a', 'b', 'c'))
  const stream = await clientFor(url).ai.chatStream({ messages })
  const once = vi.fn()
  const off = vi.fn(() => void stream.off('data', off))
  const end = vi.fn()
  stream.once('data', once).on('data', off).on('end', end).off('end', end)
  await stream.text()
  await new Promise(setImmediate)
  expect(once.mock.calls).toEqual([[content('a')]])
  expect(off.mock.calls).toEqual([[content('a')]])
  expect(end).not.toHaveBeenCalled()
})

test('nothing is read before somebody listens, and `end` alone does not make it flow', async () => {
  const pull = vi.fn((controller: ReadableByteStreamController) => {
    controller.enqueue(new TextEncoder().encode('data: [DONE]\n\n'))
    controller.close()
  })
  const body = new ReadableStream({ type: 'bytes', pull })
  const client = new WebsopyClient({ fetch: async () => new Response(body) })
  const stream = await client.ai.chatStream({ messages })
  const end = vi.fn()
  stream.on('end', end)
  await new Promise(setImmediate)
  expect(pull).not.toHaveBeenCalled()
  expect(end).not.toHaveBeenCalled()
  await stream.text()
  await eventually(() => expect(end).toHaveBeenCalledOnce())
})

test("a listener's own bug harms neither the stream nor the other listeners", async () => {
  const reported = reports()
  const { url } = await serve(answer('a', 'b'))
  const stream = await clientFor(url).ai.chatStream({ messages })
  stream.once('data', () => {
    throw new Error('bug')
  })
  const { events, ended } = record(stream)
  await ended
  expect(events).toEqual(['a', 'b', 'done', 'end'])
  await eventually(() => expect(reported).toEqual([new Error('bug')]))
})

test('toReadableStream passes the answer on as an event stream', async () => {
  const { url } = await serve(answer('a', '你'))
  const stream = await clientFor(url).ai.chatStream({ messages })
  expect(await new Response(stream.toReadableStream()).text()).toBe(
    [{ type: 'ping' }, content('a'), content('你'), done]
      .map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`)
      .join('') + 'data: [DONE]\n\n',
  )
})

test.each([
  ['an error frame', (frames: object[]) => frames.concat(failure), failure],
  [
    'a broken connection',
    (frames: object[]) => frames,
    {
      type: 'error',
      error: 'The connection ended before the answer was complete',
      retryable: true,
      code: 'stream_interrupted',
    },
  ],
])('toReadableStream passes on %s as one error frame and no [DONE]', async (_, frames, last) => {
  const { url } = await serve(async (exchange) => {
    await exchange.stream().frames(...frames([content('a')]))
    exchange.end()
  })
  const stream = await clientFor(url).ai.chatStream({ messages })
  expect(await new Response(stream.toReadableStream()).text()).toBe(
    [{ type: 'ping' }, content('a'), last].map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join(''),
  )
})

test.each([
  ['before it was read', 0],
  ['while it is read', 1],
])('cancelling a readable stream %s closes the connection', async (_, reads) => {
  let closed: Promise<unknown> | undefined
  const { url } = await serve((exchange) => {
    closed = exchange.closed
    return exchange.stream().frames(content('a'))
  })
  const stream = await clientFor(url).ai.chatStream({ messages })
  const reader = stream.toReadableStream().getReader()
  for (let i = 0; i < reads; i++) await reader.read()
  await reader.cancel()
  await closed
})

test('a page instead of a stream is told as what it is', async () => {
  const { url } = await serve((exchange) =>
    exchange.response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html>'),
  )
  const error = await clientFor(url)
    .ai.chatStream({ messages })
    .catch((error: unknown) => error)
  expect(error).toBeInstanceOf(APIError)
  expect(error).toMatchObject({ code: 'not_a_stream', message: expect.stringContaining('text/html') })
})

test('a fetch whose response cannot stream is told as what it is', async () => {
  const client = new WebsopyClient({
    fetch: async () => ({ ok: true, status: 200, headers: new Headers(), body: null }) as Response,
  })
  await expect(client.ai.chatStream({ messages })).rejects.toMatchObject({
    code: 'no_body_stream',
    message: expect.stringContaining('expo/fetch'),
  })
})

test('a key is not given away in a browser', () => {
  vi.stubGlobal('document', {})
  try {
    expect(() => new WebsopyClient({ apiKey: 'k' })).toThrow(WebsopyError)
    expect(() => new WebsopyClient({ apiKey: 'k', dangerouslyAllowBrowser: true })).not.toThrow()
    expect(() => new WebsopyClient({ apiKey: () => 'k' })).not.toThrow()
    expect(() => new WebsopyClient({ baseURL: '' })).not.toThrow()
  } finally {
    vi.unstubAllGlobals()
  }
})

test('chat gives the whole answer at once', async () => {
  const tool = { id: 'c', name: 'f', arguments: '{}' }
  const { url, seen } = await serve(async (exchange) => {
    const end = { ...done, state: '1.abc' }
    await exchange
      .stream()
      .frames(
        { type: 'reasoning', content: 'Hm' },
        content('H'),
        content('i'),
        { type: 'tool_call', tool },
        end,
      )
  })
  expect(await clientFor(url).ai.chat({ messages, model: 'm' })).toEqual({
    content: 'Hi',
    reasoning: 'Hm',
    toolCalls: [tool],
    finishReason: 'stop',
    usage: done.usage,
    state: '1.abc',
  })
  expect(JSON.parse(seen[0]!.body)).toEqual({ messages, model: 'm', stream: true, resumable: true })
})
