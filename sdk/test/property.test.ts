import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ChatStore, type UIMessage } from '@websopy/sdk/store'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
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
  | { do: 'send' | 'stop' | 'dispose' | 'cut' | 'resume' | 'again' }
  | { do: 'open'; conversation: number }
  | { do: 'wait'; ms: number }
  | { do: 'down'; ms: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Step>({ do: 'send' }) },
  { weight: 5, arbitrary: fc.nat(120).map((ms): Step => ({ do: 'wait', ms })) },
  { weight: 3, arbitrary: fc.constant<Step>({ do: 'cut' }) },
  { weight: 1, arbitrary: fc.nat(150).map((ms): Step => ({ do: 'down', ms })) },
  { weight: 2, arbitrary: fc.nat(2).map((conversation): Step => ({ do: 'open', conversation })) },
  ...(['stop', 'dispose', 'resume', 'again'] as const).map((each) => ({
    weight: 1,
    arbitrary: fc.constant<Step>({ do: each }),
  })),
)

describe.skipIf(!built)('whatever a user and a network do', () => {
  let relay: Relay
  let provider: Awaited<ReturnType<typeof startProvider>>
  beforeAll(async () => {
    provider = await startProvider()
    relay = await built!.start({
      UPSTREAM_KIND: 'openai',
      UPSTREAM_BASE_URL: provider.url,
      UPSTREAM_API_KEY: 'sk-test-0123456789',
      UPSTREAM_MODEL: 'm',
    })
  })
  afterAll(async () => {
    await relay.stop()
    provider.close()
    built!.remove()
  })

  test('texts stay in their conversation, whole when done, and asked for once', {
    timeout: 120_000,
  }, async () => {
    let next = 0
    const proxy = await proxyTo(relay.url)
    // A wish of the server to wait a second would make a test of minutes: only the jitter is left.
    vi.spyOn(Math, 'random').mockReturnValue(0.02)
    const client = clientFor(proxy.url)
    const check = async (steps: Step[]): Promise<void> => {
      const conversations: (readonly UIMessage[])[] = [[], [], []]
      const home = new Map<string, number>()
      let open = 0
      const finished: string[] = []
      const store = new ChatStore(() => ({
        client,
        onChunk: (chunk) => {
          if (chunk.type === 'done' && chunk.finishReason === 'stop') finished.push(last())
        },
      }))
      const last = () =>
        store
          .getSnapshot()
          .messages.filter(({ role }) => role === 'user')
          .at(-1)!.content
      const settled: Promise<unknown>[] = []
      for (const each of steps) {
        if (each.do === 'send') {
          const question = `q${next}`
          const before = store.getSnapshot().messages.length
          settled.push(store.sendMessage(question))
          if (store.getSnapshot().messages.length > before) {
            home.set(question, open)
            next++
          }
        } else if (each.do === 'open') {
          conversations[open] = store.getSnapshot().messages
          open = each.conversation
          store.setMessages(conversations[open]!)
        } else if (each.do === 'wait') await new Promise((resolve) => setTimeout(resolve, each.ms))
        else if (each.do === 'cut') proxy.cut()
        else if (each.do === 'down') {
          proxy.down()
          await new Promise((resolve) => setTimeout(resolve, each.ms))
          proxy.up()
        } else if (each.do === 'resume') settled.push(store.resume())
        else if (each.do === 'again') {
          if (store.getSnapshot().error) settled.push(store.regenerate())
        } else store[each.do]()
      }
      proxy.up()
      await Promise.all(settled)
      conversations[open] = store.getSnapshot().messages
      store.stop()

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
      for (const [question, times] of provider.asked) expect(times, question).toBeLessThanOrEqual(1)
    }
    onTestFinished(() => proxy.cut())
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 25, size: 'max' }), check), {
      // By itself it would draw from Math.random, which stands still here.
      seed: Number(process.env.SEED ?? Date.now()),
      numRuns: Number(process.env.RUNS ?? 12),
    })
    expect(provider.asked.size).toBeGreaterThan(5)
  })
})
