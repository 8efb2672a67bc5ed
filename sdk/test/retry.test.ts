import { APIError, ConnectionError, StreamInterruptedError, TimeoutError } from '@websopy/sdk'
import { expect, test, vi } from 'vitest'
import { clientFor, consume, expectText, messages, noBackoff, watchTimers } from './helpers.js'
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
  const closed: Promise<unknown>[] = []
  const { url, seen } = await serve((exchange) => closed.push(exchange.closed))
  const client = clientFor(url, { timeout: 300, maxRetries: 1 })
  const error = await client.ai.chatStream({ messages }).catch((error: unknown) => error)
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
])('%s before the first chunk is tried again', async (_, breakOff) => {
  noBackoff()
  const { url, seen } = await serve(breakOff, breakOff, answer('Hi'))
  await expectText(await clientFor(url).ai.chatStream({ messages }), 'Hi')
  expect(seen.map(({ method }) => method)).toEqual(['POST', 'POST', 'POST'])
  expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1)
})

test('attempts before and after the headers are counted together', async () => {
  noBackoff()
  const { url, seen } = await serve(refuse(503), (exchange) => exchange.stream().end())
  const { error } = await consume(await clientFor(url).ai.chatStream({ messages }))
  expect(error).toBeInstanceOf(StreamInterruptedError)
  expect(seen).toHaveLength(4)
})

test('a refusal that comes only after a broken attempt is given as it is', async () => {
  noBackoff()
  const { url } = await serve((exchange) => exchange.stream().end(), refuse(401))
  const { error } = await consume(await clientFor(url).ai.chatStream({ messages }))
  expect(error).toMatchObject({ name: 'APIError', status: 401 })
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

test('chat is tried again as a stream is, also when its body breaks off', async () => {
  noBackoff()
  const whole = { content: 'Hi', finishReason: 'stop' }
  const { url, seen } = await serve(
    refuse(503),
    async (exchange) => {
      exchange.response.writeHead(200, { 'content-type': 'application/json' })
      await exchange.raw('{"content":"H')
      exchange.reset()
    },
    (exchange) => exchange.json(200, whole),
  )
  expect(await clientFor(url).ai.chat({ messages })).toEqual(whole)
  expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1)
  expect(seen).toHaveLength(3)
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
