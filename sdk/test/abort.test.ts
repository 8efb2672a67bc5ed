import { getEventListeners } from 'node:events'
import { AbortError, type ChatStream } from '@websopy/sdk'
import { expect, test } from 'vitest'
import {
  clientFor,
  consume,
  eventually,
  holdTimers,
  messages,
  record,
  textOf,
  watchTimers,
} from './helpers.js'
import { answer, content, serve } from './server.js'

/** A server that has sent one chunk and goes on for ever; `closed` settles when the client has left. */
async function endless() {
  let left = () => {}
  const closed = new Promise<void>((resolve) => {
    left = resolve
  })
  const { url } = await serve((exchange) => {
    void exchange.closed.then(left)
    return exchange.stream().frames(content('a'))
  })
  return { url, closed }
}

test('aborted before the request: nothing is sent', async () => {
  const { url, seen } = await serve(answer('a'))
  const { ai } = clientFor(url)
  const signal = AbortSignal.abort(new Error('gone'))
  for (const refused of [
    ai.chatStream({ messages, signal }),
    ai.chat({ messages, signal }),
    ai.resumeStream('s', { signal }),
  ]) {
    const error = await refused.catch((error: unknown) => error)
    expect(error).toBeInstanceOf(AbortError)
    expect(error).toMatchObject({
      name: 'AbortError',
      code: 'aborted',
      retryable: false,
      cause: new Error('gone'),
    })
  }
  expect(seen).toHaveLength(0)
  expect(getEventListeners(signal, 'abort')).toHaveLength(0)
})

test('aborted while the server has not answered: rejects and closes the connection', async () => {
  const timers = watchTimers()
  const controller = new AbortController()
  let closed: Promise<unknown> | undefined
  const { url } = await serve((exchange) => {
    closed = exchange.closed
    controller.abort()
  })
  await expect(clientFor(url).ai.chatStream({ messages, signal: controller.signal })).rejects.toBeInstanceOf(
    AbortError,
  )
  await closed
  expect(timers.left()).toBe(0)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

test('aborted while waiting for the next attempt: rejects at once', async () => {
  const timers = holdTimers()
  const controller = new AbortController()
  const { url, seen } = await serve((exchange) => exchange.json(503, {}, { 'retry-after': '50' }))
  const refused = expect(
    clientFor(url).ai.chatStream({ messages, signal: controller.signal }),
  ).rejects.toBeInstanceOf(AbortError)
  await eventually(() => expect(timers.left()).toContain(50_000))
  controller.abort()
  await refused
  expect(seen).toHaveLength(1)
  expect(timers.left()).toEqual([])
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

test('aborted while the key is fetched: rejects at once, and nothing is sent', async () => {
  const { url, seen } = await serve(answer('a'))
  const controller = new AbortController()
  let give = (_: string) => {}
  const client = clientFor(url, {
    apiKey: () => {
      queueMicrotask(() => controller.abort())
      return new Promise((resolve) => {
        give = resolve
      })
    },
  })
  await expect(client.ai.chatStream({ messages, signal: controller.signal })).rejects.toBeInstanceOf(
    AbortError,
  )
  give('k')
  await new Promise(setImmediate)
  expect(seen).toHaveLength(0)
})

test('aborted after the headers, before anybody reads: closes the connection', async () => {
  const { url, closed } = await endless()
  const controller = new AbortController()
  const stream = await clientFor(url).ai.chatStream({ messages, signal: controller.signal })
  controller.abort()
  await closed
  const { error } = await consume(stream)
  expect(error).toBeInstanceOf(AbortError)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

test.each([
  ['the signal', (_: ChatStream, controller: AbortController) => controller.abort('why')],
  ['stream.abort()', (stream: ChatStream) => stream.abort('why')],
])('aborted in mid-answer by %s: the loop throws, `abort` and `end` fire', async (_, abort) => {
  const timers = watchTimers()
  const { url, closed } = await endless()
  const controller = new AbortController()
  const stream = await clientFor(url).ai.chatStream({ messages, signal: controller.signal })
  const { events, ended } = record(stream)
  stream.once('data', () => abort(stream, controller))
  const { chunks, error } = await consume(stream)
  expect(textOf(chunks)).toBe('a')
  expect(error).toBeInstanceOf(AbortError)
  expect(error).toMatchObject({ cause: 'why' })
  await ended
  await closed
  expect(events).toEqual(['a', 'AbortError', 'end'])
  expect(timers.left()).toBe(0)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

test('aborted with nobody listening: nothing is left unhandled', async () => {
  const { url, closed } = await endless()
  const stream = await clientFor(url).ai.chatStream({ messages })
  stream.on('data', () => stream.abort())
  await closed
  await expect(stream.text()).rejects.toBeInstanceOf(AbortError)
})

test('a loop that waits for the next chunk is woken by an abort', async () => {
  const { url } = await endless()
  const stream = await clientFor(url).ai.chatStream({ messages })
  const chunks = stream[Symbol.asyncIterator]()
  await chunks.next()
  const waiting = chunks.next()
  stream.abort()
  await expect(waiting).rejects.toBeInstanceOf(AbortError)
})

test('`break` aborts quietly', async () => {
  const timers = watchTimers()
  const { url, closed } = await endless()
  const controller = new AbortController()
  const stream = await clientFor(url).ai.chatStream({ messages, signal: controller.signal })
  const events: string[] = []
  stream.on('error', () => events.push('error'))
  stream.on('abort', () => events.push('abort'))
  const ended = new Promise<void>((resolve) => stream.on('end', resolve))
  for await (const _ of stream) break
  await closed
  await ended
  expect(events).toEqual([])
  expect(timers.left()).toBe(0)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

test('`break` leaves the stream to its other consumers', async () => {
  const { url } = await serve(answer('a', 'b'))
  const stream = await clientFor(url).ai.chatStream({ messages })
  const { events, ended } = record(stream)
  for await (const _ of stream) break
  await ended
  expect(events).toEqual(['a', 'b', 'done', 'end'])
})

test('`break` at the last chunk is no abort', async () => {
  const { url } = await serve(answer('a'))
  const stream = await clientFor(url).ai.chatStream({ messages })
  for await (const chunk of stream) if (chunk.type === 'done') break
  expect(await stream.text()).toBe('a')
})

test('an abort after the end changes nothing', async () => {
  const { url } = await serve(answer('a'))
  const controller = new AbortController()
  const stream = await clientFor(url).ai.chatStream({ messages, signal: controller.signal })
  const { events, ended } = record(stream)
  await ended
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  controller.abort()
  stream.abort()
  expect(await stream.text()).toBe('a')
  expect(events).toEqual(['a', 'done', 'end'])
})

test('a signal for many requests collects no listeners', async () => {
  const { url } = await serve(answer('a'))
  const { signal } = new AbortController()
  for (let i = 0; i < 5; i++) await (await clientFor(url).ai.chatStream({ messages, signal })).text()
  await expect(
    clientFor('http://127.0.0.1:1', { maxRetries: 0 }).ai.chatStream({ messages, signal }),
  ).rejects.toThrow()
  expect(getEventListeners(signal, 'abort')).toHaveLength(0)
})

test('chat is aborted while its answer is being made', async () => {
  const controller = new AbortController()
  let closed: Promise<unknown> | undefined
  const { url } = await serve((exchange) => {
    closed = exchange.closed
    controller.abort()
  })
  await expect(clientFor(url).ai.chat({ messages, signal: controller.signal })).rejects.toBeInstanceOf(
    AbortError,
  )
  await closed
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

test('a fetch that ignores its signal is left behind', async () => {
  const controller = new AbortController()
  const client = clientFor('', {
    fetch: () => {
      queueMicrotask(() => controller.abort())
      return new Promise(() => {})
    },
  })
  await expect(client.ai.chatStream({ messages, signal: controller.signal })).rejects.toBeInstanceOf(
    AbortError,
  )
})
