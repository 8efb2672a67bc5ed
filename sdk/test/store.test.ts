import { ChatStore, type UIMessage } from '@websopy/sdk/store'
import { expect, test, vi } from 'vitest'
import { clientFor, eventually, noBackoff, watchTimers } from './helpers.js'
import { answer, content, done, type Exchange, failure, serve } from './server.js'

const user = (text: string): UIMessage => ({ role: 'user', content: text })
const sent = (seen: { body: string }[], i: number) => JSON.parse(seen[i]!.body)

async function storeFor(...handlers: Parameters<typeof serve>) {
  const { url, seen } = await serve(...handlers)
  const client = clientFor(url)
  const store = new ChatStore(() => ({ client }))
  const history: ReturnType<typeof store.getSnapshot>[] = []
  store.subscribe(() => history.push(store.getSnapshot()))
  return { store, history, seen, url }
}

/** Sends one chunk and leaves the rest to the test. */
function held() {
  let exchange: Exchange | undefined
  const handler = (now: Exchange) => {
    exchange = now
    return now.stream().frames(content('par'))
  }
  return { handler, exchange: () => exchange! }
}

test('a question becomes an answer, in one last snapshot', async () => {
  const { store, history, seen } = await storeFor(answer('Hel', 'lo'))
  const sending = store.sendMessage('Hi')
  expect(store.getSnapshot()).toMatchObject({
    messages: [user('Hi')],
    status: 'submitted',
    streaming: true,
    currentContent: '',
  })
  expect(await sending).toBe(true)

  const last = store.getSnapshot()
  expect(last).toEqual({
    messages: [user('Hi'), { role: 'assistant', content: 'Hello', finishReason: 'stop', usage: done.usage }],
    status: 'ready',
    streaming: false,
    currentContent: '',
    currentReasoning: '',
    currentToolCalls: [],
    streamId: undefined,
    error: undefined,
  })
  for (const snapshot of history.slice(0, -1)) {
    expect(snapshot.streaming).toBe(true)
    expect(snapshot.messages).toEqual([user('Hi')])
  }
  expect(history.at(-1)).toBe(last)
  expect(sent(seen, 0)).toEqual({ messages: [user('Hi')], stream: true, resumable: true })
})

test('the second question is sent with the first and its answer, even by a stale function', async () => {
  const { store, seen } = await storeFor(answer('one'), answer('two'))
  const { sendMessage } = store
  await sendMessage('1')
  await sendMessage('2')
  expect(sent(seen, 1).messages).toEqual([user('1'), { role: 'assistant', content: 'one' }, user('2')])
})

test('a second question while one is answered is refused at once', async () => {
  const { handler, exchange } = held()
  const { store, seen } = await storeFor(handler)
  const first = store.sendMessage('1')
  const before = store.getSnapshot()
  const second = store.sendMessage('2')
  expect(store.getSnapshot()).toBe(before)
  expect(await second).toBe(false)
  expect(await store.regenerate()).toBe(false)
  expect(await store.resume('s')).toBe(false)
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  await exchange().frames(done)
  expect(await first).toBe(true)
  expect(seen).toHaveLength(1)
})

test.each(['', ' \n'])('%j is no question', async (text) => {
  const { store, history, seen } = await storeFor(answer('a'))
  expect(await store.sendMessage(text)).toBe(false)
  expect(history).toEqual([])
  expect(seen).toEqual([])
})

test('reasoning and tool calls are shown while they come, and kept', async () => {
  const tool = { id: 'c1', name: 'weather', arguments: '{}' }
  const { store, history } = await storeFor(async (exchange) => {
    await exchange.stream().frames({ type: 'reasoning', content: 'Hm' })
    await eventually(() => expect(store.getSnapshot().currentReasoning).toBe('Hm'))
    await exchange.frames({ type: 'tool_call', tool })
    await eventually(() => expect(store.getSnapshot().currentToolCalls).toEqual([tool]))
    await exchange.frames({ type: 'done', finishReason: 'tool_calls', model: 'm' })
  })
  expect(await store.sendMessage('Hi')).toBe(true)
  expect(store.getSnapshot().messages[1]).toEqual({
    role: 'assistant',
    content: '',
    reasoning: 'Hm',
    toolCalls: [tool],
    finishReason: 'tool_calls',
    model: 'm',
  })
  expect(history.at(-1)).toMatchObject({ currentReasoning: '', currentToolCalls: [] })
})

test('a tool call is sent with its result, and left out without one', async () => {
  const tools = ['c1', 'c2'].map((id) => ({ id, name: 'weather', arguments: '{}' }))
  const { store, seen } = await storeFor(async (exchange) => {
    const calls = tools.map((tool) => ({ type: 'tool_call', tool }))
    await exchange.stream().frames(...calls, { type: 'done', finishReason: 'tool_calls' })
  }, answer('Sunny'))
  await store.sendMessage('Weather?')
  await store.sendMessage({ role: 'tool', toolCallId: 'c1', content: 'sun' })
  expect(sent(seen, 1).messages).toEqual([
    user('Weather?'),
    {
      role: 'assistant',
      content: '',
      tool_calls: [{ id: 'c1', type: 'function', function: { name: 'weather', arguments: '{}' } }],
    },
    { role: 'tool', tool_call_id: 'c1', content: 'sun' },
  ])
  store.setMessages((messages) => messages.slice(0, 2))
  await store.sendMessage('Never mind')
  expect(sent(seen, 2).messages).toEqual([user('Weather?'), user('Never mind')])
})

test('parts are sent in place of the text', async () => {
  const { store, seen } = await storeFor(answer('A cat'))
  const parts = [{ type: 'image_url' as const, image_url: { url: 'data:image/png;base64,AA==' } }]
  await store.sendMessage({ role: 'user', content: '', parts })
  expect(sent(seen, 0).messages).toEqual([{ role: 'user', content: parts }])
})

test('a failure keeps the text so far, and asking again replaces it', async () => {
  const { store, seen } = await storeFor(async (exchange) => {
    await exchange.stream().frames(content('half'), failure)
    exchange.end()
  }, answer('whole'))
  expect(await store.sendMessage('Hi')).toBe(false)
  expect(store.getSnapshot()).toMatchObject({
    status: 'error',
    streaming: false,
    error: { code: 'upstream_error' },
    messages: [user('Hi'), { role: 'assistant', content: 'half', interrupted: true }],
  })
  expect(await store.regenerate()).toBe(true)
  expect(sent(seen, 1).messages).toEqual([user('Hi')])
  expect(store.getSnapshot()).toMatchObject({
    status: 'ready',
    error: undefined,
    messages: [{}, { content: 'whole' }],
  })
})

test('a failure before the first chunk leaves no empty answer', async () => {
  const { store } = await storeFor((exchange) => exchange.json(401, { error: 'No', code: 'unauthorized' }))
  expect(await store.sendMessage('Hi')).toBe(false)
  expect(store.getSnapshot()).toMatchObject({ status: 'error', error: { code: 'unauthorized' } })
  expect(store.getSnapshot().messages).toEqual([user('Hi')])
  store.clearError()
  expect(store.getSnapshot()).toMatchObject({ status: 'ready', error: undefined })
})

test('there is nothing to regenerate in an empty conversation', async () => {
  const { store, seen } = await storeFor(answer('a'))
  expect(await store.regenerate()).toBe(false)
  expect(seen).toHaveLength(0)
})

test('stop keeps what is there', async () => {
  const { handler, exchange } = held()
  const { store } = await storeFor(handler)
  const sending = store.sendMessage('Hi')
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  store.stop()
  expect(await sending).toBe(false)
  expect(store.getSnapshot()).toMatchObject({ status: 'ready', error: undefined, streaming: false })
  expect(store.getSnapshot().messages[1]).toEqual({
    role: 'assistant',
    content: 'par',
    finishReason: 'stopped',
  })
  await exchange().closed
})

test('stop before the answer began leaves the question', async () => {
  const { store, url } = await storeFor(() => {})
  const sending = store.sendMessage('Hi')
  store.stop()
  expect(await sending).toBe(false)
  expect(store.getSnapshot()).toMatchObject({ status: 'ready', error: undefined, messages: [user('Hi')] })
  expect(url).toBeTruthy()
})

test('disposed in mid-answer it closes the connection and can be used again', async () => {
  const timers = watchTimers()
  const { handler, exchange } = held()
  const { store } = await storeFor(handler, answer('b'))
  const sending = store.sendMessage('1')
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  store.dispose()
  expect(await sending).toBe(false)
  await exchange().closed
  expect(store.getSnapshot()).toMatchObject({ status: 'ready', streaming: false, error: undefined })
  expect(await store.sendMessage('2')).toBe(true)
  await eventually(() => expect(timers.left()).toBe(0))
})

test('a broken connection is not seen', async () => {
  noBackoff()
  const { store, history, seen } = await storeFor(
    async (exchange) => {
      await exchange.stream({ 'x-stream-id': 's' }).frames({ ...content('a'), $id: 's.1' })
      exchange.reset()
    },
    async (exchange) => {
      await exchange.stream().frames({ ...content('b'), $id: 's.2' }, { ...done, $id: 's.3' })
    },
  )
  expect(await store.sendMessage('Hi')).toBe(true)
  expect(store.getSnapshot().messages[1]).toMatchObject({ content: 'ab' })
  expect(history.every(({ error, status }) => !error && status !== 'error')).toBe(true)
  expect(history.some(({ streamId }) => streamId === 's')).toBe(true)
  expect(seen[1]).toMatchObject({ method: 'GET', url: '/api/chat/stream/s' })
})

test('an answer that was under way is picked up', async () => {
  const { url, seen } = await serve(answer('a', 'b'))
  const client = clientFor(url)
  const store = new ChatStore(() => ({ client, initialMessages: [user('Hi')] }))
  expect(await store.resume('s')).toBe(true)
  expect(seen[0]).toMatchObject({ method: 'GET', url: '/api/chat/stream/s' })
  expect(store.getSnapshot().messages).toMatchObject([user('Hi'), { role: 'assistant', content: 'ab' }])
})

test('options are read when a message is sent', async () => {
  const { url, seen } = await serve(answer('a'))
  const options = {
    client: clientFor(url),
    model: 'one',
    temperature: 0.5,
    enable_thinking: true,
    resumable: false,
  }
  const store = new ChatStore(() => options)
  await store.sendMessage('1')
  options.model = 'two'
  await store.sendMessage('2')
  expect(sent(seen, 0)).toMatchObject({
    model: 'one',
    temperature: 0.5,
    enable_thinking: true,
    resumable: false,
  })
  expect(sent(seen, 1).model).toBe('two')
  expect(sent(seen, 0)).not.toHaveProperty('client')
})

test('every chunk is told, and snapshots come less often', async () => {
  const { url } = await serve(answer(...Array.from({ length: 500 }, () => 'x')))
  const onChunk = vi.fn()
  const client = clientFor(url)
  const store = new ChatStore(() => ({ client, onChunk }))
  const published = vi.fn()
  store.subscribe(published)
  await store.sendMessage('Hi')
  expect(onChunk).toHaveBeenCalledTimes(501)
  expect(published.mock.calls.length).toBeLessThan(100)
  expect(store.getSnapshot().messages[1]?.content).toHaveLength(500)
})

test('messages set while an answer is under way are kept', async () => {
  const { handler, exchange } = held()
  const { store } = await storeFor(handler)
  const sending = store.sendMessage('Hi')
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  store.setMessages([user('edited')])
  await exchange().frames(content('tial'))
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('partial'))
  await exchange().frames(done)
  await sending
  expect(store.getSnapshot().messages).toMatchObject([user('edited'), { content: 'partial' }])
})

test('a subscriber that has left is told no more', async () => {
  const { store } = await storeFor(answer('a'))
  const subscriber = vi.fn()
  store.subscribe(subscriber)()
  await store.sendMessage('Hi')
  expect(subscriber).not.toHaveBeenCalled()
})
