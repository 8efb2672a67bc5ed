import { APIError, ConnectionError, StreamInterruptedError, TimeoutError } from '@websopy/sdk'
import { expect, test, vi } from 'vitest'
import {
  clientFor,
  consume,
  eventually,
  expectText,
  holdTimers,
  messages,
  noBackoff,
  watchTimers,
} from './helpers.js'
import { answer, content, done, type Exchange, serve } from './server.js'

const refuse =
  (status: number, headers: Record<string, string> = {}) =>
  (exchange: Exchange) =>
    exchange.json(status, { type: 'error', error: 'No', code: 'nope', requestId: 'r9' }, headers)

test.each([408, 425, 429, 500, 502, 503, 504])(
  '%i is tried again, with the same idempotency key',
  async (status) => {
    noBackoff()
    const { url, seen } = await serve(refuse(status), refuse(status), answer('Hi'))
    await expectText(await clientFor(url).ai.chatStream({ messages }), 'Hi')
    expect(seen).toHaveLength(3)
    expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1)
    expect(new Set(seen.map(({ body }) => body)).size).toBe(1)
  },
)

test.each([400, 401, 403, 404, 405, 409, 413, 415, 422])('%i is not', async (status) => {
  const { url, seen } = await serve(refuse(status))
  const error = await clientFor(url)
    .ai.chatStream({ messages })
    .catch((error: unknown) => error)
  expect(error).toBeInstanceOf(APIError)
  expect(error).toMatchObject({ status, code: 'nope', message: 'No', requestId: 'r9', retryable: false })
  expect(seen).toHaveLength(1)
})

test("a server's word that it will not help is believed", async () => {
  const { url, seen } = await serve((exchange) =>
    exchange.json(502, { type: 'error', error: 'Wrong key', code: 'upstream_auth', retryable: false }),
  )
  await expect(clientFor(url).ai.chatStream({ messages })).rejects.toMatchObject({ code: 'upstream_auth' })
  expect(seen).toHaveLength(1)
})

test('gives up after maxRetries, with the last refusal', async () => {
  noBackoff()
  const { url, seen } = await serve(refuse(503))
  await expect(clientFor(url).ai.chatStream({ messages })).rejects.toMatchObject({
    status: 503,
    retryable: true,
  })
  expect(seen).toHaveLength(4)
  await expect(clientFor(url, { maxRetries: 0 }).ai.chatStream({ messages })).rejects.toBeInstanceOf(APIError)
  expect(seen).toHaveLength(5)
})

test('a connection that breaks before the answer is tried again', async () => {
  noBackoff()
  const reset = (exchange: Exchange) => exchange.reset()
  const { url, seen } = await serve(reset, reset, reset, answer('Hi'))
  await expectText(await clientFor(url).ai.chatStream({ messages }), 'Hi')
  expect(seen).toHaveLength(4)
})

test('a server that cannot be reached is a ConnectionError, with its cause', async () => {
  noBackoff()
  const client = clientFor('http://127.0.0.1:1')
  const error = await client.ai.chatStream({ messages }).catch((error: unknown) => error)
  expect(error).toBeInstanceOf(ConnectionError)
  expect(error).toMatchObject({ code: 'connection_error', retryable: true, cause: expect.any(TypeError) })
})

test('a server that does not answer in time is tried again, and its connection closed', async () => {
  noBackoff()
  const timers = holdTimers()
  const closed: Promise<unknown>[] = []
  const { url, seen } = await serve((exchange) => closed.push(exchange.closed))
  const client = clientFor(url, { timeout: 300, maxRetries: 1 })
  const refused = client.ai.chatStream({ messages }).catch((error: unknown) => error)
  await eventually(() => expect(seen).toHaveLength(1))
  timers.pass(300)
  await eventually(() => expect(timers.left()).toContain(0))
  timers.pass(0)
  await eventually(() => expect(seen).toHaveLength(2))
  timers.pass(300)
  const error = await refused
  expect(error).toBeInstanceOf(TimeoutError)
  expect(error).toMatchObject({ phase: 'connect', code: 'timeout', retryable: true })
  expect(seen).toHaveLength(2)
  await Promise.all(closed)
})

test.each([
  ['an end of the body', (exchange: Exchange) => exchange.stream().end()],
  ['a reset', (exchange: Exchange) => exchange.stream().reset()],
  [
    'an end after pings',
    async (exchange: Exchange) => {
      await exchange.stream().frames({ type: 'ping' })
      exchange.end()
    },
  ],
])('%s after the headers is not asked again: it may have been answered', async (_, breakOff) => {
  noBackoff()
  const { url, seen } = await serve(breakOff, answer('Hi'))
  const { error } = await consume(await clientFor(url).ai.chatStream({ messages }))
  expect(error).toBeInstanceOf(StreamInterruptedError)
  expect(seen).toHaveLength(1)
})

test.each([500, 502, 504])("a proxy's %i is asked again only under a key", async (status) => {
  noBackoff()
  const page = (exchange: Exchange) => exchange.response.writeHead(status).end('<html>')
  const { url, seen } = await serve(page, answer('Hi'))
  await expect(clientFor(url).ai.chatStream({ messages })).rejects.toMatchObject({ status })
  expect(seen).toHaveLength(1)
  const keyed = await serve(page, answer('Hi'))
  await expectText(await clientFor(keyed.url).ai.chatStream({ messages, resumable: true }), 'Hi')
  expect(new Set(keyed.seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1)
})

test('backs off with full jitter: 500 ms, doubled up to 8 s', async () => {
  const { delays } = watchTimers()
  vi.spyOn(Math, 'random').mockReturnValue(0.01)
  const { url } = await serve(refuse(500))
  const client = clientFor(url, { maxRetries: 6, timeout: 0 })
  await expect(client.ai.chatStream({ messages })).rejects.toBeInstanceOf(APIError)
  expect(delays).toEqual([5, 10, 20, 40, 80, 80])
})

test.each([
  ['seconds', '0.01', 10, 10],
  ['a date that is past', 'Wed, 21 Oct 2015 07:28:00 GMT', 0, 0],
  ['a date that is near', new Date(Date.now() + 1000).toUTCString(), 0, 1000],
])('Retry-After as %s wins over the back-off', async (_, retryAfter, least, most) => {
  const { delays } = watchTimers()
  vi.spyOn(Math, 'random').mockReturnValue(1)
  const { url } = await serve(refuse(429, { 'retry-after': retryAfter }), answer('Hi'))
  await expectText(await clientFor(url, { timeout: 0, idleTimeout: 0 }).ai.chatStream({ messages }), 'Hi')
  expect(delays[0]).toBeGreaterThanOrEqual(least)
  expect(delays[0]).toBeLessThanOrEqual(most)
})

test('a Retry-After of minutes is told, not waited for', async () => {
  const { url, seen } = await serve(refuse(429, { 'retry-after': '3600' }))
  await expect(clientFor(url).ai.chatStream({ messages })).rejects.toMatchObject({
    status: 429,
    retryAfter: 3600,
  })
  expect(seen).toHaveLength(1)
})

test.each([
  ['a page of a proxy', '<html>Bad gateway</html>', 'The server answered 400', 'http_400'],
  [
    'the OpenAI error object',
    '{"error":{"message":"No such model","type":"x"}}',
    'No such model',
    'http_400',
  ],
  ['a JSON null', 'null', 'The server answered 400', 'http_400'],
  ['an error of null', '{"error":null}', 'The server answered 400', 'http_400'],
])('a refusal by %s has words too', async (_, body, message, code) => {
  const { url } = await serve((exchange) =>
    exchange.response.writeHead(400, { 'x-request-id': 'r2' }).end(body),
  )
  await expect(clientFor(url).ai.chatStream({ messages })).rejects.toMatchObject({
    message,
    code,
    requestId: 'r2',
  })
})

test('chat survives time-outs and cuts, and asks once', async () => {
  noBackoff()
  const cut = async (exchange: Exchange) => {
    await exchange.stream({ 'x-stream-id': 's' }).frames({ ...content('H'), $id: 's.1' })
    exchange.reset()
  }
  const { url, seen } = await serve(
    (exchange) => exchange.response.writeHead(504).end('<html>'),
    cut,
    (exchange) => exchange.stream().frames({ ...content('i'), $id: 's.2' }, { ...done, $id: 's.3' }),
  )
  expect(await clientFor(url).ai.chat({ messages })).toEqual({
    content: 'Hi',
    finishReason: 'stop',
    usage: done.usage,
  })
  expect(seen.map(({ method }) => method)).toEqual(['POST', 'POST', 'GET'])
  expect(seen[1]?.headers['idempotency-key']).toBe(seen[0]?.headers['idempotency-key'])
})

test('what the key function throws is thrown as it is', async () => {
  const { url, seen } = await serve(answer('Hi'))
  const bug = new Error('not logged in')
  const client = clientFor(url, {
    apiKey: () => {
      throw bug
    },
  })
  await expect(client.ai.chatStream({ messages })).rejects.toBe(bug)
  expect(seen).toHaveLength(0)
})

test('after the first chunk nothing is asked again', async () => {
  noBackoff()
  const { url, seen } = await serve(
    async (exchange) => {
      await exchange.stream().frames(content('a'))
      exchange.reset()
    },
    answer('b', JSON.stringify(done)),
  )
  const { error } = await consume(await clientFor(url).ai.chatStream({ messages }))
  expect(error).toMatchObject({ name: 'StreamInterruptedError', partial: 'a' })
  expect(seen).toHaveLength(1)
})
