import { ChatStore, type UIMessage } from '@websopy/sdk/store'
import { expect, test, vi } from 'vitest'
import { clientFor, eventually, holdTimers, noBackoff, reports, watchTimers } from './helpers.js'
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

test('one message sent twice is two questions, also in two conversations', async () => {
  const { handler, exchange } = held()
  const { store } = await storeFor(answer('one'), handler)
  const more = user('more')
  await store.sendMessage(more)
  const other = store.getSnapshot().messages
  const second = store.sendMessage(more)
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  await exchange().frames(done)
  expect(await second).toBe(true)
  expect(store.getSnapshot().messages.map(({ content }) => content)).toEqual(['more', 'one', 'more', 'par'])
  store.setMessages([])
  void store.sendMessage(more)
  store.setMessages(other)
  expect(store.getSnapshot()).toMatchObject({ streaming: false, messages: other })
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

test('a tool that gave nothing is a result', async () => {
  const tool = { id: 'c1', name: 'delete', arguments: '{}' }
  const { store, seen } = await storeFor(
    (exchange) =>
      exchange.stream().frames({ type: 'tool_call', tool }, { ...done, finishReason: 'tool_calls' }),
    answer('Deleted'),
  )
  await store.sendMessage('Delete it')
  expect(await store.sendMessage({ role: 'tool', toolCallId: 'c1', content: '' })).toBe(true)
  expect(sent(seen, 1).messages[2]).toEqual({ role: 'tool', tool_call_id: 'c1', content: '' })
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

test('disposed in mid-answer it can be picked up, where it was left', async () => {
  const first = { ...content('a'), $id: 's.1' }
  const { store, seen } = await storeFor(
    (exchange) => exchange.stream({ 'x-stream-id': 's' }).frames(first),
    (exchange) => exchange.stream({ 'x-stream-id': 's' }).frames({ ...content('b'), $id: 's.2' }),
    async (exchange) => {
      await exchange.stream().frames({ ...done, $id: 's.3' })
      exchange.end()
    },
  )
  void store.sendMessage('1')
  for (const text of ['a', 'ab']) {
    await eventually(() => expect(store.getSnapshot().currentContent).toBe(text))
    store.dispose()
    expect(store.getSnapshot().messages).toMatchObject([{}, { content: text, interrupted: true }])
    if (text === 'a') void store.resume()
  }
  expect(await store.resume()).toBe(true)
  expect(store.getSnapshot().messages).toMatchObject([{}, { content: 'ab', finishReason: 'stop' }])
  expect(seen.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, 's.1', 's.2'])
})

test('disposed at any moment it is picked up without a lost or doubled character', async () => {
  const frames = [content('a'), content('b'), content('c'), done].map(
    (chunk, i) => `data: ${JSON.stringify(chunk)}\nid: s.${i + 1}\n\n`,
  )
  let pickedUp = 0
  for (let ticks = 0; ticks < 60; ticks++) {
    const dispose = async () => {
      for (let i = 0; i < ticks; i++) await undefined
      store.dispose()
    }
    const client = clientFor('', {
      fetch: async (_, { method, headers }) => {
        let next = Number((headers as Record<string, string>)['last-event-id']?.slice(2) ?? 0)
        const body = new ReadableStream({
          pull(controller) {
            if (next === 2 && method === 'POST') void dispose()
            if (next === frames.length) controller.close()
            else controller.enqueue(new TextEncoder().encode(frames[next++]))
          },
        })
        return new Response(body, { headers: { 'x-stream-id': 's' } })
      },
    })
    const store = new ChatStore(() => ({ client }))
    if (!(await store.sendMessage('1'))) {
      pickedUp++
      expect(await store.resume()).toBe(true)
    }
    expect(store.getSnapshot().messages, `after ${ticks} ticks`).toMatchObject([
      {},
      { content: 'abc', finishReason: 'stop' },
    ])
  }
  expect(pickedUp).toBeGreaterThan(0)
})

test('a snapshot that was due does not hide that the connection broke', async () => {
  noBackoff()
  const { store, history } = await storeFor(
    async (exchange) => {
      await exchange.stream({ 'x-stream-id': 's' }).frames({ ...content('a'), $id: 's.1' })
      await exchange.frames({ ...content('b'), $id: 's.2' })
      exchange.reset()
    },
    async (exchange) => {
      await new Promise((resolve) => setTimeout(resolve, 100))
      await exchange.stream().frames({ ...content('c'), $id: 's.3' }, { ...done, $id: 's.4' })
      exchange.end()
    },
  )
  expect(await store.sendMessage('1')).toBe(true)
  expect(store.getSnapshot().messages).toMatchObject([{}, { content: 'abc' }])
  const statuses = history.map(({ status }) => status)
  expect(statuses.filter((status, i) => status !== statuses[i - 1])).toEqual([
    'submitted',
    'streaming',
    'reconnecting',
    'streaming',
    'ready',
  ])
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

test.each([
  ['the server has no more', (exchange: Exchange) => exchange.json(404, {}), () => {}],
  ['is left again', () => {}, (store: ChatStore) => store.dispose()],
  ['is stopped', () => {}, (store: ChatStore) => store.stop()],
])('what an earlier page had of an answer stays when the answer %s', async (_, handler, act) => {
  const half: UIMessage = { role: 'assistant', content: 'half', interrupted: true }
  const { url } = await serve(handler, (exchange) => exchange.response.writeHead(202).end())
  const client = clientFor(url)
  const store = new ChatStore(() => ({ client, initialMessages: [user('Hi'), half] }))
  const resuming = store.resume('s')
  act(store)
  expect(await resuming).toBe(false)
  expect(store.getSnapshot().messages).toEqual([user('Hi'), half])
})

test('a better answer that an earlier page left is in place of the old one', async () => {
  const { url } = await serve(answer('new'))
  const client = clientFor(url)
  const old: UIMessage = { role: 'assistant', content: 'old', finishReason: 'stop' }
  const store = new ChatStore(() => ({ client, initialMessages: [user('Hi'), old] }))
  expect(await store.resume('s')).toBe(true)
  expect(store.getSnapshot().messages).toMatchObject([user('Hi'), { content: 'new' }])
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
  // However long the machine takes, no time passes.
  holdTimers()
  const { url } = await serve(answer(...Array.from({ length: 500 }, () => 'x')))
  const onChunk = vi.fn()
  const client = clientFor(url)
  const store = new ChatStore(() => ({ client, onChunk }))
  const published = vi.fn()
  store.subscribe(published)
  await store.sendMessage('Hi')
  expect(onChunk).toHaveBeenCalledTimes(501)
  expect(published.mock.calls.length).toBeLessThan(10)
  expect(store.getSnapshot().messages[1]?.content).toHaveLength(500)
})

test('an answer goes on, behind its question, while other messages come and go', async () => {
  const { handler, exchange } = held()
  const { store } = await storeFor(handler)
  const sending = store.sendMessage('Hi')
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  store.setMessages(([question]) => [user('before'), question!, user('note')])
  await exchange().frames(content('tial'))
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('partial'))
  await exchange().frames(done)
  expect(await sending).toBe(true)
  expect(store.getSnapshot().messages.map(({ content }) => content)).toEqual([
    'before',
    'Hi',
    'partial',
    'note',
  ])
})

test.each([
  ['a new chat', (_: ChatStore) => [] as UIMessage[]],
  ['another conversation', (_: ChatStore) => [user('Hi')]],
  [
    'a new chat after stop',
    (store: ChatStore) => {
      store.stop()
      return []
    },
  ],
])('%s in mid-answer gets nothing of it', async (_, next) => {
  const { handler, exchange } = held()
  const { store, history } = await storeFor(handler, answer('new'))
  const first = store.sendMessage('Hi')
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  const messages = next(store)
  store.setMessages(messages)
  expect(store.getSnapshot()).toMatchObject({ messages, status: 'ready', currentContent: '' })
  const before = history.length
  await exchange().closed
  expect(await first).toBe(false)
  expect(history).toHaveLength(before)
  expect(await store.sendMessage('Next')).toBe(true)
  expect(store.getSnapshot().messages).toMatchObject([...messages, user('Next'), { content: 'new' }])
})

test.each(['stop', 'dispose'] as const)('a question right after %s is sent', async (end) => {
  const { handler } = held()
  const { store, seen } = await storeFor(handler, answer('two'))
  const first = store.sendMessage('1')
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  store[end]()
  const second = store.sendMessage('2')
  expect(store.getSnapshot()).toMatchObject({ status: 'submitted' })
  expect(await first).toBe(false)
  expect(await second).toBe(true)
  expect(seen.filter(({ url }) => url.endsWith('/stream'))).toHaveLength(2)
  expect(store.getSnapshot().messages.map(({ content }) => content)).toEqual(['1', 'par', '2', 'two'])
})

test('stop within the first round trip stops the generation', async () => {
  let exchange: Exchange | undefined
  const { store, seen } = await storeFor(
    (now) => {
      exchange = now
    },
    (now) => now.response.writeHead(202).end(),
  )
  const sending = store.sendMessage('Hi')
  await eventually(() => expect(seen).toHaveLength(1))
  store.stop()
  expect(store.getSnapshot().status).toBe('ready')
  expect(await sending).toBe(false)
  exchange!.stream({ 'x-stream-id': 's' })
  await exchange!.closed
  await eventually(() => expect(seen[1]).toMatchObject({ method: 'POST', url: '/api/chat/stream/s/stop' }))
})

test('stop before the start frame waits for it where the header is hidden', async () => {
  let exchange: Exchange | undefined
  const { store, seen } = await storeFor(
    (now) => {
      exchange = now.stream()
    },
    (now) => now.response.writeHead(202).end(),
  )
  const sending = store.sendMessage('Hi')
  await eventually(() => expect(exchange).toBeDefined())
  store.stop()
  expect(await sending).toBe(false)
  await exchange!.frames({ type: 'start', id: 's', $id: 's.0' })
  await exchange!.closed
  await eventually(() => expect(seen[1]?.url).toBe('/api/chat/stream/s/stop'))
})

test('a question that waits to be sent again is not sent after stop', async () => {
  const timers = holdTimers()
  const { store, seen } = await storeFor(
    (exchange) => exchange.json(503, {}, { 'retry-after': '7' }),
    answer('late'),
  )
  const sending = store.sendMessage('Hi')
  await eventually(() => expect(timers.left()).toContain(7000))
  expect(store.getSnapshot().status).toBe('reconnecting')
  store.stop()
  expect(await sending).toBe(false)
  await eventually(() => expect(timers.left()).not.toContain(7000))
  await new Promise(setImmediate)
  expect(seen).toHaveLength(1)
})

test('a question whose key is still fetched is not sent after stop', async () => {
  const { url, seen } = await serve(answer('late'))
  let give = (_: string) => {}
  const apiKey = () =>
    new Promise<string>((resolve) => {
      give = resolve
    })
  const fetched = vi.fn(fetch)
  const client = clientFor(url, { apiKey, fetch: fetched })
  const store = new ChatStore(() => ({ client }))
  const sending = store.sendMessage('Hi')
  store.stop()
  expect(await sending).toBe(false)
  give('k')
  // fetch looks at its signal before anything else.
  await eventually(() => expect(fetched).toHaveBeenCalled())
  expect(fetched.mock.lastCall?.[1]?.signal?.aborted).toBe(true)
  expect(seen).toHaveLength(0)
})

test.each([
  ['fails at once', (exchange: Exchange) => exchange.json(400, { error: 'No', code: 'x' })],
  ['fails half-way', (exchange: Exchange) => exchange.stream().frames(content('half'), failure)],
])('an answer comes back when the one in its place %s', async (_, fail) => {
  const { store } = await storeFor(answer('old'), fail)
  await store.sendMessage('Hi')
  expect(await store.regenerate()).toBe(false)
  expect(store.getSnapshot()).toMatchObject({ status: 'error', messages: [user('Hi'), { content: 'old' }] })
})

test('an answer comes back when the one in its place is stopped', async () => {
  const { handler } = held()
  const { store } = await storeFor(answer('old'), handler)
  await store.sendMessage('Hi')
  const again = store.regenerate()
  await eventually(() => expect(store.getSnapshot().currentContent).toBe('par'))
  store.stop()
  expect(await again).toBe(false)
  expect(store.getSnapshot().messages).toMatchObject([user('Hi'), { content: 'old' }])
})

/** An answer that breaks off for good, and what the server has of it afterwards. */
const breaking =
  (id = 's') =>
  async (exchange: Exchange) => {
    const start = { type: 'start', id, graceMs: 1, retentionMs: 1, $id: `${id}.0` }
    await exchange.stream({ 'x-stream-id': id }).frames(start, { ...content('a'), $id: `${id}.1` })
    exchange.reset()
  }
const down = (exchange: Exchange) => exchange.reset()

test.each(['regenerate', 'resume'] as const)(
  '%s after a break goes on with the same message',
  async (way) => {
    const { store, seen } = await storeFor(breaking(), down, async (exchange) => {
      await exchange.stream().frames({ ...content('b'), $id: 's.2' }, { ...done, $id: 's.3' })
    })
    vi.spyOn(Math, 'random').mockReturnValue(0.02)
    expect(await store.sendMessage('Hi')).toBe(false)
    expect(store.getSnapshot()).toMatchObject({
      status: 'error',
      streamId: 's',
      messages: [user('Hi'), { content: 'a', interrupted: true }],
    })
    const again = store[way]()
    expect(store.getSnapshot()).toMatchObject({ messages: [user('Hi')], currentContent: 'a' })
    expect(await again).toBe(true)
    expect(store.getSnapshot()).toMatchObject({
      streamId: undefined,
      messages: [user('Hi'), { content: 'ab', finishReason: 'stop' }],
    })
    expect(seen.at(-1)?.headers['last-event-id']).toBe('s.1')
  },
)

test('a stream that is gone is asked for again', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.02)
  const { store, seen } = await storeFor(
    breaking(),
    down,
    (exchange) => exchange.json(404, { error: 'Gone', code: 'stream_not_found' }),
    answer('new'),
  )
  await store.sendMessage('Hi')
  expect(await store.regenerate()).toBe(true)
  expect(store.getSnapshot().messages).toMatchObject([user('Hi'), { content: 'new' }])
  const [first, , , second] = seen
  expect(second?.headers['idempotency-key']).not.toBe(first?.headers['idempotency-key'])
})

test.each([
  ['a connection that breaks', down],
  ["a proxy's time-out", (exchange: Exchange) => exchange.response.writeHead(504).end('<html>')],
])('a question that may have arrived is asked again under the same key after %s', async (_, fail) => {
  noBackoff()
  const { store, seen } = await storeFor(fail, fail, fail, fail, answer('one'), answer('two'))
  expect(await store.sendMessage('Hi')).toBe(false)
  expect(store.getSnapshot()).toMatchObject({ status: 'error', streamId: undefined })
  expect(await store.regenerate()).toBe(true)
  expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1)
  await store.regenerate()
  expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(2)
})

test.each([401, 429, 503])(
  'an answer that can not be picked up now (%i) is not asked for anew',
  async (status) => {
    const { url, seen } = await serve((exchange) => exchange.json(status, {}), answer('old'))
    const client = clientFor(url, { maxRetries: 0 })
    const store = new ChatStore(() => ({ client, initialMessages: [user('Hi')] }))
    expect(await store.resume('s')).toBe(false)
    expect(store.getSnapshot()).toMatchObject({ status: 'error', streamId: 's' })
    expect(await store.regenerate()).toBe(true)
    expect(seen.map(({ method }) => method)).toEqual(['GET', 'GET'])
  },
)

test('an answer that broke off is the same one for those who come back', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.02)
  const { store, seen } = await storeFor(breaking(), down, answer('ab'))
  await store.sendMessage('Hi')
  const { messages } = store.getSnapshot()
  store.setMessages([])
  store.setMessages(messages)
  expect(await store.regenerate()).toBe(true)
  expect(store.getSnapshot().messages).toMatchObject([user('Hi'), { content: 'ab' }])
  expect(seen[2]).toMatchObject({ method: 'POST' })
  expect(seen[2]?.headers['idempotency-key']).toBe(seen[0]?.headers['idempotency-key'])
})

test('an error belongs to its question, and is the same one for those who come back', async () => {
  noBackoff()
  const { store, seen } = await storeFor(down, down, down, down, answer('one'))
  await store.sendMessage('Hi')
  store.setMessages((messages) => [user('before'), ...messages])
  expect(store.getSnapshot()).toMatchObject({ status: 'error', error: { name: 'ConnectionError' } })
  const { messages } = store.getSnapshot()
  store.setMessages([user('Bye')])
  expect(store.getSnapshot()).toMatchObject({ status: 'ready', error: undefined })
  store.setMessages(messages.slice(1))
  expect(await store.regenerate()).toBe(true)
  expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1)
})

test('what the provider wants back is kept and sent, and left out when it is too much', async () => {
  const { store, seen } = await storeFor(
    (exchange) => exchange.stream().frames(content('one'), { ...done, state: '1.x' }),
    (exchange) => exchange.json(413, {}),
    answer('two'),
  )
  await store.sendMessage('1')
  expect(store.getSnapshot().messages[1]).toMatchObject({ state: '1.x' })
  expect(await store.sendMessage('2')).toBe(true)
  expect(sent(seen, 1).messages[1]).toEqual({ role: 'assistant', content: 'one', state: '1.x' })
  expect(sent(seen, 2).messages[1]).toEqual({ role: 'assistant', content: 'one' })
  expect(seen).toHaveLength(3)
})

test('a conversation with an id is one, on a page', async () => {
  const { chatStore } = await import('@websopy/sdk/store')
  expect(
    chatStore('a', () => ({})),
    'on a server',
  ).not.toBe(chatStore('a', () => ({})))
  vi.stubGlobal('document', {})
  const first = chatStore('a', () => ({}))
  expect(chatStore('a', () => ({}))).toBe(first)
  for (let i = 0; i < 60; i++) chatStore(`${i}`, () => ({}))
  expect(
    chatStore('a', () => ({})),
    'the oldest that nobody uses is forgotten',
  ).not.toBe(first)
  vi.unstubAllGlobals()
})

test("a subscriber's own bug, or one of onChunk, harms no answer", async () => {
  const reported = reports()
  const { url } = await serve(answer('Hel', 'lo'))
  const bug = () => {
    throw new Error('bug')
  }
  const client = clientFor(url)
  const store = new ChatStore(() => ({ client, onChunk: bug }))
  store.subscribe(bug)
  const told = vi.fn()
  store.subscribe(told)
  expect(await store.sendMessage('Hi')).toBe(true)
  expect(store.getSnapshot()).toMatchObject({ status: 'ready', messages: [user('Hi'), { content: 'Hello' }] })
  await eventually(() => expect(reported).toHaveLength(told.mock.calls.length + 3))
})

test('a subscriber that has left is told no more', async () => {
  const { store } = await storeFor(answer('a'))
  const subscriber = vi.fn()
  store.subscribe(subscriber)()
  await store.sendMessage('Hi')
  expect(subscriber).not.toHaveBeenCalled()
})
