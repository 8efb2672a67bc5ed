import { AbortError, type StreamChunk, StreamError, WebsopyClient } from '@websopy/sdk'
import { ChatStore } from '@websopy/sdk/store'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { clientFor, consume, messages, record, textOf } from './helpers.js'
import { proxyTo } from './proxy.js'
import { buildRelay, type Relay } from './relay.js'

const built = buildRelay()

describe.skipIf(!built)('against the relay', () => {
  let relay: Relay
  let baseURL: string
  beforeAll(async () => {
    relay = await built!.start({ RELAY_HEARTBEAT: '1s', UPSTREAM_IDLE_TIMEOUT: '3s' })
    baseURL = relay.url
  })
  afterAll(async () => {
    await relay.stop()
    built!.remove()
  })

  const ask = async (model: string) => clientFor(baseURL).ai.chatStream({ messages, model })

  test('the loop of the README', async () => {
    const written: string[] = []
    const process = {
      env: { WEBSOPY_API_KEY: 'sk-test' },
      stdout: { write: (text: string) => written.push(text) },
    }

    const client = new WebsopyClient({ apiKey: process.env.WEBSOPY_API_KEY, baseURL })
    const stream = await client.ai.chatStream({
      messages: [{ role: 'user', content: '写一篇关于 AI 的文章' }],
    })
    for await (const chunk of stream) {
      if (chunk.type === 'content') process.stdout.write(chunk.content)
    }

    expect(written.length).toBeGreaterThan(20)
    expect(written.join('')).toContain('写一篇关于 AI 的文章')
  })

  test('the listeners of the README', async () => {
    const client = new WebsopyClient({ baseURL })
    const chunks: StreamChunk[] = []
    const stream = await client.ai.chatStream({ messages, model: 'demo-fast' })
    await new Promise<void>((resolve) => {
      stream.on('data', (chunk) => chunks.push(chunk))
      stream.on('end', () => resolve())
    })
    expect(chunks.at(-1)).toMatchObject({
      type: 'done',
      finishReason: 'stop',
      usage: { promptTokens: expect.any(Number), completionTokens: expect.any(Number) },
    })
    expect(textOf(chunks)).toContain('Hello')
  })

  test('the whole answer at once is the streamed one', async () => {
    const whole = await clientFor(baseURL).ai.chat({ messages, model: 'demo-fast' })
    expect(whole).toMatchObject({ finishReason: 'stop', model: 'demo-fast' })
    expect(await (await ask('demo-fast')).text()).toBe(whole.content)
  })

  test('reasoning, tool calls and text of every script arrive', async () => {
    const reasoning = await consume(await ask('demo-reasoning'))
    expect(reasoning.chunks[0]?.type).toBe('reasoning')
    expect(textOf(reasoning.chunks)).not.toBe('')

    const tools = await consume(await ask('demo-tools'))
    const call = tools.chunks.find(({ type }) => type === 'tool_call')
    expect(JSON.parse(call!.tool!.arguments)).toBeTypeOf('object')
    expect(tools.chunks.at(-1)).toMatchObject({ finishReason: 'tool_calls' })

    const { content } = await clientFor(baseURL).ai.chat({ messages, model: 'demo-unicode' })
    expect(await (await ask('demo-unicode')).text()).toBe(content)
  })

  test.each([
    ['demo-error', 'upstream_error'],
    ['demo-truncated', 'upstream_truncated'],
  ])('%s fails after its text, never as success', async (model, code) => {
    const { chunks, error } = await consume(await ask(model))
    expect(error).toBeInstanceOf(StreamError)
    expect(error).toMatchObject({
      code,
      retryable: true,
      partial: textOf(chunks),
      requestId: expect.any(String),
    })
    expect(textOf(chunks)).not.toBe('')
    expect(chunks.at(-1)?.type).toBe('error')
  })

  test("a dead model is the relay's error: its pings keep the connection alive", async () => {
    const client = clientFor(baseURL, { idleTimeout: 2500 })
    const { error } = await consume(await client.ai.chatStream({ messages, model: 'demo-stall' }))
    expect(error).toMatchObject({ name: 'StreamError', code: 'upstream_timeout', phase: 'idle' })
  })

  test('an abort ends it', async () => {
    const controller = new AbortController()
    const stream = await clientFor(baseURL).ai.chatStream({
      messages,
      model: 'demo-long',
      signal: controller.signal,
    })
    const { events, ended } = record(stream)
    stream.once('data', () => controller.abort())
    await expect(consume(stream)).resolves.toMatchObject({ error: expect.any(AbortError) })
    await ended
    expect(events.slice(-2)).toEqual(['AbortError', 'end'])
  })

  test('what is wrong with a request is said', async () => {
    await expect(clientFor(baseURL).ai.chatStream({ messages: [] })).rejects.toMatchObject({
      name: 'APIError',
      status: 400,
      code: 'invalid_request',
      message: expect.stringContaining('messages'),
    })
  })

  test('connections that break again and again lose nothing and double nothing', async () => {
    const { content } = await clientFor(baseURL).ai.chat({ messages, model: 'demo-fast' })
    const proxy = await proxyTo(baseURL)
    const stream = await clientFor(proxy.url).ai.chatStream({ messages, model: 'demo', resumable: true })
    const ids = new Set<string | undefined>()
    let text = ''
    let chunks = 0
    for await (const chunk of stream) {
      ids.add(stream.lastEventId)
      text += chunk.content ?? ''
      if (++chunks % 30 === 0) proxy.cut()
    }
    expect(text).toBe(content)
    expect(ids.size, 'each chunk has a position of its own').toBe(chunks)
  })

  test('a stream is picked up by another client, from the beginning or after a position', async () => {
    const first = await clientFor(baseURL).ai.chatStream({ messages, model: 'demo-fast', resumable: true })
    const { chunks } = await consume(first)
    const { ai } = clientFor(baseURL)
    expect((await consume(await ai.resumeStream(first.id!))).chunks).toEqual(chunks)

    const half = await ai.resumeStream(first.id!)
    let read = 0
    for await (const _ of half) if (++read === 10) break
    const rest = await ai.resumeStream(first.id!, { lastEventId: half.lastEventId! })
    expect((await consume(rest)).chunks).toEqual(chunks.slice(10))

    const end = await ai.resumeStream(first.id!, { lastEventId: first.lastEventId! })
    expect((await consume(end)).chunks).toEqual([])
    await expect(ai.resumeStream('0'.repeat(32))).rejects.toMatchObject({
      status: 404,
      code: 'stream_not_found',
    })
  })

  test('stop ends a resumable stream for everybody', async () => {
    const { ai } = clientFor(baseURL)
    const stream = await ai.chatStream({ messages, model: 'demo-long', resumable: true })
    const other = consume(await ai.resumeStream(stream.id!))
    for await (const chunk of stream) if (chunk.type === 'content') await stream.stop()
    const { chunks, error } = await other
    expect(error).toBeUndefined()
    expect(chunks.at(-1)).toMatchObject({ type: 'done', finishReason: 'stopped' })
  })

  test('a conversation of several turns', async () => {
    const client = clientFor(baseURL)
    const store = new ChatStore(() => ({ client, model: 'demo-fast' }))
    expect(await store.sendMessage('你好')).toBe(true)
    expect(await store.sendMessage('And now?')).toBe(true)
    expect(store.getSnapshot().messages.map(({ role }) => role)).toEqual([
      'user',
      'assistant',
      'user',
      'assistant',
    ])
    expect(store.getSnapshot().messages[3]?.content).toContain('And now?')
  })

  test('a key is asked for, and taken', async () => {
    const closed = await built!.start({ RELAY_API_KEYS: 'web:sk-test-0123456789' })
    try {
      await expect(clientFor(closed.url).ai.chatStream({ messages })).rejects.toMatchObject({
        status: 401,
        code: 'unauthorized',
      })
      const client = clientFor(closed.url, { apiKey: 'sk-test-0123456789' })
      expect(await (await client.ai.chatStream({ messages, model: 'demo-fast' })).text()).not.toBe('')
    } finally {
      await closed.stop()
    }
  })

  test('a relay that goes away says so', async () => {
    const leaving = await built!.start()
    const stream = await clientFor(leaving.url).ai.chatStream({ messages, model: 'demo-long' })
    let stopped: Promise<void> | undefined
    stream.once('data', () => {
      stopped = leaving.stop()
    })
    const { error } = await consume(stream)
    expect(error).toMatchObject({ name: 'StreamError', code: 'server_shutdown', retryable: true })
    await stopped
  })
})
