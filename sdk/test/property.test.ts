import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ChatStore, type UIMessage } from '@websopy/sdk/store'
import fc from 'fast-check'
import { afterAll, afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { clientFor } from './helpers.js'
import { proxyTo } from './proxy.js'
import { buildRelay, type Relay } from './relay.js'

const built = buildRelay()

/** Words enough for a user to do something in mid-answer; all of them name their question. */
const answerTo = (question: string): string[] => Array.from({ length: 12 }, (_, i) => `${question}:${i} `)

/** A provider that speaks OpenAI's format, and counts how often each question is asked. */
async function startProvider() {
  const asked = new Map<string, number>()
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const piece of request) body += piece
    const question = JSON.parse(body).messages.at(-1).content as string
    asked.set(question, (asked.get(question) ?? 0) + 1)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const send = (delta: object, finish_reason: string | null = null) =>
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`)
    for (const content of answerTo(question)) {
      await new Promise((resolve) => setTimeout(resolve, 8))
      if (response.destroyed) return
      send({ content })
    }
    send({}, 'stop')
    response.end('data: [DONE]\n\n')
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, asked, close: () => server.close() }
}

type Step =
  | { do: 'send' | 'stop' | 'dispose' | 'cut' | 'resume' | 'again' | 'reload' }
  | { do: 'open'; conversation: number }
  | { do: 'wait' | 'down' | 'blackhole'; ms: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Step>({ do: 'send' }) },
  { weight: 5, arbitrary: fc.nat(120).map((ms): Step => ({ do: 'wait', ms })) },
  { weight: 3, arbitrary: fc.constant<Step>({ do: 'cut' }) },
  { weight: 1, arbitrary: fc.nat(150).map((ms): Step => ({ do: 'down', ms })) },
  { weight: 1, arbitrary: fc.nat(400).map((ms): Step => ({ do: 'blackhole', ms })) },
  { weight: 2, arbitrary: fc.nat(2).map((conversation): Step => ({ do: 'open', conversation })) },
  ...(['stop', 'dispose', 'resume', 'again', 'reload'] as const).map((each) => ({
    weight: 1,
    arbitrary: fc.constant<Step>({ do: each }),
  })),
)

// Each test has a relay and a provider of its own: a question that was sent in the last moment of the one before is
// asked after its end.
describe.skipIf(!built)('whatever a user and a network do', () => {
  let relay: Relay
  let provider: Awaited<ReturnType<typeof startProvider>>
  beforeEach(async () => {
    provider = await startProvider()
    relay = await built!.start({
      UPSTREAM_KIND: 'openai',
      UPSTREAM_BASE_URL: provider.url,
      UPSTREAM_API_KEY: 'sk-test-0123456789',
      UPSTREAM_MODEL: 'm',
      RELAY_ADMIN_ADDR: '127.0.0.1:0',
    })
  })
  afterEach(async () => {
    await relay.stop()
    provider.close()
  })
  afterAll(() => built!.remove())

  /** How many answers the relay has begun. */
  const generations = async (): Promise<number> => {
    const text = await (await fetch(`${relay.admin}/metrics`)).text()
    const lines = text.match(/^relay_upstream_attempts_total\{.*$/gm) ?? []
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  }

  const textOf = (messages: readonly UIMessage[], role: string) =>
    messages.filter((message) => message.role === role).at(-1)?.content

  // One store for all conversations, whose messages are replaced, or one for each, which goes on unseen.
  test.each([true, false])(
    'texts stay in their conversation, whole when done, and asked for once: one store %s',
    {
      timeout: 120_000,
    },
    async (single) => {
      let next = 0
      const proxy = await proxyTo(relay.url)
      // A wish of the server to wait a second would make a test of minutes: only the jitter is left.
      vi.spyOn(Math, 'random').mockReturnValue(0.02)
      const client = clientFor(proxy.url, { idleTimeout: 250 })
      /** How often each question may be answered: once, and once more for each time that another answer is wanted. */
      const wanted = new Map<string, number>()

      const check = async (steps: Step[]): Promise<void> => {
        const home = new Map<string, number>()
        const finished = new Set<string>()
        const settled: Promise<unknown>[] = []
        const create = (initialMessages: readonly UIMessage[] = []) => {
          const store: ChatStore = new ChatStore(() => ({
            client,
            initialMessages,
            onChunk: (chunk) => {
              const asked = textOf(store.getSnapshot().messages, 'user')!
              if (chunk.type === 'done' && chunk.finishReason === 'stop') finished.add(asked)
            },
          }))
          return store
        }
        const conversations: (readonly UIMessage[])[] = [[], [], []]
        const stores = Array.from({ length: single ? 1 : 3 }, () => create())
        let open = 0
        const at = () => (single ? 0 : open)
        const act = async (each: Step): Promise<void> => {
          const store = stores[at()]!
          const { messages, error, streamId, streaming } = store.getSnapshot()
          // An answer that waits for a better one is not in the messages that an app keeps when it leaves now.
          const forgetOld = () => finished.delete(textOf(messages, 'user') ?? '')
          if (each.do === 'send') {
            const question = `q${next}`
            settled.push(store.sendMessage(question))
            if (store.getSnapshot().messages.length === messages.length) return
            home.set(question, open)
            wanted.set(question, 1)
            next++
          } else if (each.do === 'open') {
            if (single) {
              if (streaming && each.conversation !== open) forgetOld()
              conversations[open] = messages
              store.setMessages(conversations[each.conversation]!)
            }
            open = each.conversation
          } else if (each.do === 'wait') await new Promise((resolve) => setTimeout(resolve, each.ms))
          else if (each.do === 'cut') proxy.cut()
          else if (each.do === 'down' || each.do === 'blackhole') {
            proxy[each.do]()
            await new Promise((resolve) => setTimeout(resolve, each.ms))
            proxy.up()
          } else if (each.do === 'resume') settled.push(store.resume())
          else if (each.do === 'again') {
            settled.push(store.regenerate())
            const question = textOf(messages, 'user')
            // What broke off is picked up, what failed before it had an id is the same question again.
            if (question && !streaming && !streamId && !error) wanted.set(question, wanted.get(question)! + 1)
          } else if (each.do === 'reload') {
            // The page keeps what a session storage can, and goes.
            if (streaming) forgetOld()
            const kept = JSON.parse(JSON.stringify(messages))
            store.dispose()
            const later = create(kept)
            stores[at()] = later
            if (streamId) settled.push(later.resume(streamId))
          } else store[each.do]()
        }
        for (const each of steps) await act(each)
        proxy.up()
        await Promise.all(settled)
        for (const [i, store] of stores.entries()) {
          expect(store.getSnapshot().streaming, 'nothing is under way').toBe(false)
          conversations[single ? open : i] = store.getSnapshot().messages
        }

        conversations.forEach((messages, i) => {
          let question = ''
          for (const message of messages) {
            if (message.role === 'user') {
              question = message.content
              expect(home.get(question), 'a question is where it was asked').toBe(i)
              continue
            }
            const whole = answerTo(question).join('')
            const { content, finishReason } = message
            expect(whole.startsWith(content), `"${content}" is of ${question}`).toBe(true)
            if (finishReason === 'stop') expect(content).toBe(whole)
          }
        })
        for (const question of finished) {
          const answered = conversations[home.get(question)!]!
          const at = answered.findIndex(({ content }) => content === question)
          if (at >= 0) expect(answered[at + 1]?.content, 'done was seen').toBe(answerTo(question).join(''))
        }
        for (const [question, times] of provider.asked) {
          expect(times, question).toBeLessThanOrEqual(wanted.get(question)!)
        }
      }
      onTestFinished(() => proxy.cut())
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 25, size: 'max' }), check),
        {
          // By itself it would draw from Math.random, which stands still here.
          seed: Number(process.env.SEED ?? Date.now()),
          numRuns: Number(process.env.RUNS ?? 10),
        },
      )
      expect(provider.asked.size).toBeGreaterThan(5)
      const asked = () => [...provider.asked.values()].reduce((sum, times) => sum + times, 0)
      await expect.poll(async () => (await generations()) - asked(), { timeout: 10_000 }).toBe(0)
    },
  )
})
