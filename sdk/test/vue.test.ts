import { useStreamingChat } from '@websopy/sdk/vue'
import { expect, test, vi } from 'vitest'
import { effectScope, isReactive, nextTick, ref, watch } from 'vue'
import { clientFor, eventually, watchTimers } from './helpers.js'
import { answer, content, type Exchange, failure, serve } from './server.js'

/** Uses the composable as a component's setup would. */
function setup(options: Parameters<typeof useStreamingChat>[0]) {
  const scope = effectScope()
  const chat = scope.run(() => useStreamingChat(options))!
  return { scope, chat }
}

test('a chat streams, and remembers', async () => {
  const { url, seen } = await serve(answer('Hel', 'lo'), answer('again'))
  const { chat, scope } = setup({ client: clientFor(url) })
  expect(chat.streaming.value).toBe(false)
  const sending = chat.sendMessage('Hi')
  expect(chat.streaming.value).toBe(true)
  expect(await sending).toBe(true)
  await chat.sendMessage('And?')
  expect(chat.messages.value.map(({ content }) => content)).toEqual(['Hi', 'Hello', 'And?', 'again'])
  expect(JSON.parse(seen[1]!.body).messages).toHaveLength(3)
  scope.stop()
})

test('the finished message, the emptied text and the end of streaming come together', async () => {
  const { url } = await serve(answer('Hel', 'lo'))
  const { chat, scope } = setup({ client: clientFor(url) })
  const states: unknown[] = []
  scope.run(() =>
    watch(
      () => [chat.messages.value.length, chat.currentContent.value !== '', chat.streaming.value],
      (state) => states.push(state),
      { flush: 'sync' },
    ),
  )
  await chat.sendMessage('Hi')
  expect(states).toEqual([
    [1, false, true],
    [1, true, true],
    [2, false, false],
  ])
  scope.stop()
})

test('options may be a ref, a getter or a plain object', async () => {
  const { url, seen } = await serve(answer('a'))
  const model = ref('one')
  const client = clientFor(url)
  const { chat, scope } = setup(() => ({ client, model: model.value }))
  model.value = 'two'
  await chat.sendMessage('Hi')
  expect(JSON.parse(seen[0]!.body).model).toBe('two')
  expect(isReactive(chat.messages.value)).toBe(false)
  scope.stop()
})

test('the end of the scope closes the connection and leaves nothing', async () => {
  const timers = watchTimers()
  let exchange: Exchange | undefined
  const { url } = await serve((now) => {
    exchange = now
    return now.stream().frames(content('a'))
  })
  const { chat, scope } = setup({ client: clientFor(url) })
  const sending = chat.sendMessage('Hi')
  await eventually(() => expect(chat.currentContent.value).toBe('a'))
  scope.stop()
  await exchange!.closed
  expect(await sending).toBe(false)
  expect(timers.left()).toBe(0)
})

test('an error is told, and cleared; stop and regenerate work', async () => {
  const { url } = await serve(
    async (exchange) => {
      await exchange.stream().frames(content('half'), failure)
      exchange.end()
    },
    (exchange) => exchange.stream().frames(content('again')),
  )
  const { chat, scope } = setup({ client: clientFor(url) })
  await chat.sendMessage('Hi')
  expect(chat.status.value).toBe('error')
  expect(chat.error.value).toMatchObject({ code: 'upstream_error' })
  chat.clearError()
  expect(chat.status.value).toBe('ready')

  const sending = chat.regenerate()
  await eventually(() => expect(chat.currentContent.value).toBe('again'))
  chat.stop()
  expect(await sending).toBe(false)
  expect(chat.messages.value.map(({ content }) => content)).toEqual(['Hi', 'again'])
  scope.stop()
})

test('outside of a scope it works without a warning', async () => {
  const warning = vi.spyOn(console, 'warn')
  const { url } = await serve(answer('a'))
  const chat = useStreamingChat({ client: clientFor(url) })
  await chat.sendMessage('Hi')
  await nextTick()
  expect(chat.messages.value).toHaveLength(2)
  expect(warning).not.toHaveBeenCalled()
})
