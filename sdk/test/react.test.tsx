// @vitest-environment jsdom

import { act, cleanup, fireEvent, render, renderHook, screen } from '@testing-library/react'
import { type ChatOptions, type UseStreamingChat, useStreamingChat } from '@websopy/sdk/react'
import { StrictMode, useState } from 'react'
import { renderToString } from 'react-dom/server'
import { afterEach, expect, test, vi } from 'vitest'
import { clientFor, eventually, watchTimers } from './helpers.js'
import { answer, content, done, type Exchange, failure, serve } from './server.js'

afterEach(cleanup)

const hook = (options: ChatOptions) =>
  renderHook((props: ChatOptions) => useStreamingChat(props), {
    wrapper: StrictMode,
    initialProps: options,
  })

/** The hook of a page's component, as a user would write it. */
function Chat(options: ChatOptions) {
  const { messages, streaming, currentContent, sendMessage } = useStreamingChat(options)
  const [input, setInput] = useState('')
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault()
        sendMessage(input)
        setInput('')
      }}
    >
      <ul>
        {messages.map((message, i) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: a conversation only grows
          <li key={i}>{message.content}</li>
        ))}
        {streaming && <li>{currentContent}…</li>}
      </ul>
      <input value={input} onChange={(event) => setInput(event.target.value)} />
    </form>
  )
}

test('a chat in StrictMode: sends nothing by itself, streams, and remembers', async () => {
  const { url, seen } = await serve(answer('Hel', 'lo'), answer('again'))
  const client = clientFor(url)
  render(<Chat client={client} />, { wrapper: StrictMode })
  expect(seen).toHaveLength(0)

  const input = screen.getByRole('textbox')
  const ask = (text: string) => {
    fireEvent.change(input, { target: { value: text } })
    fireEvent.submit(input)
  }
  const lines = () => screen.getAllByRole('listitem').map(({ textContent }) => textContent)
  ask('Hi')
  expect(lines()).toEqual(['Hi', '…'])
  await eventually(() => expect(lines()).toEqual(['Hi', 'Hello']))
  ask('And?')
  await eventually(() => expect(lines()).toEqual(['Hi', 'Hello', 'And?', 'again']))
  expect(JSON.parse(seen[1]!.body).messages).toHaveLength(3)
  expect(seen).toHaveLength(2)
})

test('the functions never change, and the first ones do as the last ones', async () => {
  const { url, seen } = await serve(answer('one'), answer('two'))
  const { result } = hook({ client: clientFor(url) })
  const { sendMessage, stop, regenerate } = result.current
  await act(() => sendMessage('1'))
  await act(() => sendMessage('2'))
  expect(result.current).toMatchObject({ sendMessage, stop, regenerate })
  expect(result.current.messages.map(({ content }) => content)).toEqual(['1', 'one', '2', 'two'])
  expect(JSON.parse(seen[1]!.body).messages).toHaveLength(3)
})

test('no render ever shows an answer twice, or not at all', async () => {
  const { url } = await serve(answer('Hel', 'lo'))
  const client = clientFor(url)
  const renders: UseStreamingChat[] = []
  const { result } = renderHook(
    () => {
      const chat = useStreamingChat({ client })
      renders.push(chat)
      return chat
    },
    { wrapper: StrictMode },
  )
  await act(() => result.current.sendMessage('Hi'))
  for (const { messages, streaming, currentContent } of renders) {
    if (messages.length === 2)
      expect({ streaming, currentContent }).toEqual({ streaming: false, currentContent: '' })
    else expect(currentContent === '' || streaming).toBe(true)
  }
})

test('options may change from render to render', async () => {
  const { url, seen } = await serve(answer('a'))
  const client = clientFor(url)
  const { result, rerender } = hook({ client, model: 'one' })
  rerender({ client, model: 'two' })
  await act(() => result.current.sendMessage('Hi'))
  expect(JSON.parse(seen[0]!.body).model).toBe('two')
})

test('an error is told, and cleared', async () => {
  const { url } = await serve(async (exchange) => {
    await exchange.stream().frames(content('half'), failure)
    exchange.end()
  })
  const { result } = hook({ client: clientFor(url) })
  await act(() => result.current.sendMessage('Hi'))
  expect(result.current).toMatchObject({
    status: 'error',
    error: { code: 'upstream_error' },
    streaming: false,
  })
  act(() => result.current.clearError())
  expect(result.current).toMatchObject({ status: 'ready', error: undefined })
})

test('unmounting in mid-answer closes the connection and leaves nothing', async () => {
  const timers = watchTimers()
  const complaints = vi.spyOn(console, 'error')
  let exchange: Exchange | undefined
  const { url } = await serve((now) => {
    exchange = now
    return now.stream().frames(content('a'))
  })
  const { result, unmount } = hook({ client: clientFor(url) })
  let sending: Promise<boolean> | undefined
  act(() => {
    sending = result.current.sendMessage('Hi')
  })
  await eventually(() => expect(result.current.currentContent).toBe('a'))
  unmount()
  await exchange!.closed
  expect(await sending).toBe(false)
  expect(timers.left()).toBe(0)
  expect(complaints).not.toHaveBeenCalled()
})

test('stop keeps what is there', async () => {
  const { url } = await serve((exchange) => exchange.stream().frames(content('a')))
  const { result } = hook({ client: clientFor(url) })
  let sending: Promise<boolean> | undefined
  act(() => {
    sending = result.current.sendMessage('Hi')
  })
  await eventually(() => expect(result.current.status).toBe('streaming'))
  await act(async () => {
    result.current.stop()
    await sending
  })
  expect(result.current.messages[1]).toEqual({ role: 'assistant', content: 'a', finishReason: 'stopped' })
})

test('renders on a server', () => {
  const client = clientFor('http://127.0.0.1:1')
  expect(
    renderToString(<Chat client={client} initialMessages={[{ role: 'user', content: 'Hi' }]} />),
  ).toContain('<li>Hi</li>')
})

test('without a client it asks its own origin, without a key', async () => {
  const fetched = vi.fn(async () => new Response(`data: ${JSON.stringify(done)}\n\n`))
  vi.stubGlobal('fetch', fetched)
  try {
    const { result } = renderHook(() => useStreamingChat(), { wrapper: StrictMode })
    await act(() => result.current.sendMessage('Hi'))
    expect(fetched).toHaveBeenCalledExactlyOnceWith(
      '/v1/ai/chat/stream',
      expect.objectContaining({ method: 'POST' }),
    )
    expect(fetched.mock.lastCall).not.toHaveProperty('1.headers.authorization')
  } finally {
    vi.unstubAllGlobals()
  }
})
