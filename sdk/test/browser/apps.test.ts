import { execFileSync, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { BrowserContext, Page } from 'playwright-core'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { clientFor } from '../helpers.js'
import { proxyTo } from '../proxy.js'
import { describeInBrowser, open } from './chromium.js'
import { bundle, serveSite } from './site.js'

/** A page with everything that the tests look at in `window.chat`, and a conversation that comes and goes. */
const reactApp = (effect: string) => `
  import { createRoot } from 'react-dom/client'
  import { StrictMode, useEffect, useState } from 'react'
  import { WebsopyClient } from '@websopy/sdk'
  import { useStreamingChat } from '@websopy/sdk/react'
  const client = new WebsopyClient({ baseURL: '', idleTimeout: 3000 })
  function Chat({ id, model }) {
    const chat = useStreamingChat({ client, id, model })
    window.chat = chat
    ;(window.statuses ??= []).push(chat.status)
    useEffect(() => { ${effect} }, [])
    return <p>{chat.status}</p>
  }
  function App() {
    const [props, set] = useState({ model: 'demo', ...Object.fromEntries(new URLSearchParams(location.search)) })
    window.go = set
    return props && <Chat key={props.id} {...props} />
  }
  createRoot(document.getElementById('app')).render(<StrictMode><App /></StrictMode>)`

const vueApp = (effect: string) => `
  import { createApp, h, onMounted, shallowRef } from 'vue'
  import { WebsopyClient } from '@websopy/sdk'
  import { useStreamingChat } from '@websopy/sdk/vue'
  const client = new WebsopyClient({ baseURL: '', idleTimeout: 3000 })
  const props = shallowRef({ model: 'demo', ...Object.fromEntries(new URLSearchParams(location.search)) })
  window.go = (next) => { props.value = next }
  const Chat = {
    props: ['id', 'model'],
    setup(own) {
      const refs = useStreamingChat(() => ({ client, id: own.id, model: own.model }))
      const chat = new Proxy(refs, { get: (all, name) => typeof all[name] === 'function' ? all[name] : all[name].value })
      window.chat = chat
      onMounted(() => { ${effect} })
      return () => { (window.statuses ??= []).push(chat.status); return h('p', chat.status) }
    },
  }
  createApp({ render: () => props.value && h(Chat, { key: props.value.id, ...props.value }) }).mount('#app')`

const react18 = { react: 'react-18', 'react-dom': 'react-dom-18' }

interface Chat {
  status: string
  streaming: boolean
  currentContent: string
  streamId: string | undefined
  messages: { role: string; content: string }[]
  currentReasoning: string
  sendMessage: (message: string | object) => Promise<boolean>
}
declare const chat: Chat
declare const statuses: string[]
declare const go: (props: { id?: string; model?: string } | null) => void

/**
 * A DeepSeek that thinks, waits until it is let go on, and calls a tool. What follows without its thinking it refuses,
 * as the real one does.
 */
async function deepseek() {
  let questions = 0
  let goOn = () => {}
  const free = new Promise<void>((resolve) => (goOn = resolve))
  const event = (choice: object) => `data: ${JSON.stringify({ choices: [{ index: 0, ...choice }] })}\n\n`
  const call = { index: 0, id: 'c1', function: { name: 'f', arguments: '{}' } }
  const server = createHttpServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const { messages } = JSON.parse(Buffer.concat(chunks).toString())
    questions++
    const asked = messages.find(({ role }: { role: string }) => role === 'assistant')
    if (asked && asked.reasoning_content !== 'I think.') {
      response.writeHead(400).end('{"error":{"message":"the thinking is gone"}}')
      return
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    if (asked) response.write(event({ delta: { content: 'It worked.' }, finish_reason: 'stop' }))
    else {
      response.write(event({ delta: { reasoning_content: 'I think.' } }))
      await free
      response.write(event({ delta: { tool_calls: [call] }, finish_reason: 'tool_calls' }))
    }
    response.end('data: [DONE]\n\n')
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, goOn: () => goOn(), questions: () => questions }
}

describeInBrowser('an app', (machine) => {
  const shown = (page: Page) => page.evaluate(() => chat.messages.map(({ content }) => content))
  const ended = (page: Page, ms = 60_000) =>
    page.waitForFunction(() => !chat.streaming && chat.messages.length > 1, undefined, { timeout: ms })
  const grown = (page: Page) => page.waitForFunction(() => chat.currentContent.length > 10)
  const wholeAnswer = async (content: string) => {
    const messages = [{ role: 'user' as const, content }]
    return (await clientFor(machine.relay.url).ai.chat({ model: 'demo-fast', messages })).content
  }
  /** How many answers a relay has begun. */
  const generations = async (admin: string) => {
    const text = await (await fetch(`${admin}/metrics`)).text()
    const lines = text.match(/^relay_upstream_attempts_total\{.*$/gm) ?? []
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  }

  describe.each([
    ['React 18', reactApp, react18],
    ['React 19', reactApp, {}],
    ['Vue 3.5', vueApp, {}],
  ] as const)('with %s', (_, app, alias) => {
    const built: Record<string, string> = {}
    const script = async (effect: string) => {
      built[effect] ??= await bundle(app(effect), { development: true, alias })
      return built[effect]
    }
    beforeAll(async () => void (await script('')))

    test('sends in a mount effect, once', async () => {
      const relay = await machine.start({ RELAY_ADMIN_ADDR: '127.0.0.1:0' })
      onTestFinished(() => relay.stop())
      const site = await serveSite(await script("chat.sendMessage('Hello')"), relay.url)
      const page = await open(machine.browser, site.url)
      await ended(page)
      expect(await shown(page)).toEqual(['Hello', await wholeAnswer('Hello')])
      expect(await generations(relay.admin!)).toBe(1)
    })

    test('resumes in a mount effect', async () => {
      const messages = [{ role: 'user' as const, content: 'Hello' }]
      const stream = await clientFor(machine.relay.url).ai.chatStream({ messages, resumable: true })
      const site = await serveSite(await script(`chat.resume('${stream.id}')`), machine.relay.url)
      const page = await open(machine.browser, site.url)
      await page.waitForFunction(() => !chat.streaming && chat.messages.length === 1)
      expect(await shown(page)).toEqual([await wholeAnswer('Hello')])
    })

    test('a conversation with an id goes on while nobody looks', async () => {
      const site = await serveSite(await script(''), machine.relay.url)
      const page = await open(machine.browser, `${site.url}/?id=one`)
      await page.waitForFunction(() => typeof chat === 'object')
      await page.evaluate(() => void chat.sendMessage('Hello'))
      await grown(page)
      await page.evaluate(() => go({ id: 'two', model: 'demo-fast' }))
      await page.waitForFunction(() => chat.messages.length === 0)
      await page.evaluate(() => chat.sendMessage('Other'))
      await page.evaluate(() => go(null))
      await page.evaluate(() => go({ id: 'one' }))
      await ended(page)
      expect(await shown(page)).toEqual(['Hello', await wholeAnswer('Hello')])
      await page.evaluate(() => go({ id: 'two' }))
      await page.waitForFunction(() => chat.messages.length === 2)
      expect(await shown(page)).toEqual(['Other', await wholeAnswer('Other')])
    })

    test('without an id the end of the component stops the answer', async () => {
      const site = await serveSite(await script(''), machine.relay.url)
      const page = await open(machine.browser, site.url)
      await page.waitForFunction(() => typeof chat === 'object')
      await page.evaluate(() => void chat.sendMessage('Hello'))
      await grown(page)
      const id = await page.evaluate(() => chat.streamId)
      await page.evaluate(() => go(null))
      const rest = await clientFor(machine.relay.url).ai.resumeStream(id!)
      expect(await rest.completion()).toMatchObject({ finishReason: 'stopped' })
    })

    test('the second turn brings back what the model thought, also after a cut', async () => {
      const provider = await deepseek()
      const relay = await machine.start({
        UPSTREAM_KIND: 'openai',
        UPSTREAM_BASE_URL: provider.url,
        UPSTREAM_MODEL: 'm',
        UPSTREAM_FAMILY: 'deepseek',
      })
      onTestFinished(() => relay.stop())
      const proxy = await proxyTo(relay.url)
      const site = await serveSite(await script(''), proxy.url)
      const page = await open(machine.browser, `${site.url}/?model=m`)
      await page.waitForFunction(() => typeof chat === 'object')
      await page.evaluate(() => void chat.sendMessage('How is the weather?'))
      await page.waitForFunction(() => chat.currentReasoning !== '')
      proxy.cut()
      provider.goOn()
      await ended(page)
      expect(await page.evaluate(() => statuses)).toContain('reconnecting')
      const result = { role: 'tool', toolCallId: 'c1', content: '4 degrees' }
      expect(await page.evaluate((result) => chat.sendMessage(result), result)).toBe(true)
      expect((await shown(page)).at(-1)).toBe('It worked.')
      expect(provider.questions()).toBe(2)
    })

    test('a network that swallows everything, and then comes back', async () => {
      const relay = await machine.start({ RELAY_HEARTBEAT: '1s' })
      onTestFinished(() => relay.stop())
      const proxy = await proxyTo(relay.url)
      proxy.delay(20)
      const site = await serveSite(await script(''), proxy.url)
      const page = await open(machine.browser, site.url)
      await page.waitForFunction(() => typeof chat === 'object')
      await page.evaluate(() => void chat.sendMessage('Hello'))
      await grown(page)
      proxy.blackhole()
      await page.waitForFunction(() => chat.status === 'reconnecting')
      proxy.up()
      await ended(page)
      expect(await shown(page)).toEqual(['Hello', await wholeAnswer('Hello')])
    })
  })

  test('2, 5, 20 and 50 s without a network lose nothing', { timeout: 120_000 }, async () => {
    const scripts = await Promise.all([bundle(reactApp('')), bundle(vueApp(''))])
    const whole = await wholeAnswer('Hello')
    await Promise.all(
      [2, 5, 20, 50].map(async (seconds, i) => {
        const site = await serveSite(scripts[i % 2]!, machine.relay.url)
        const page = await open(machine.browser, `${site.url}/`)
        const network: BrowserContext = page.context()
        await page.waitForFunction(() => typeof chat === 'object')
        await page.evaluate(() => void chat.sendMessage('Hello'))
        await grown(page)
        await network.setOffline(true)
        site.cut()
        await page.waitForFunction(() => chat.status === 'reconnecting')
        await page.waitForTimeout(seconds * 1000)
        expect(await page.evaluate(() => chat.status)).toBe('reconnecting')
        await network.setOffline(false)
        await ended(page)
        expect(await shown(page), `${seconds} s`).toEqual(['Hello', whole])
      }),
    )
  })

  /** Starts a Redis of its own; gives nothing, and says so, on a machine without one. */
  async function startRedis(): Promise<string | undefined> {
    try {
      execFileSync('redis-server', ['--version'], { stdio: 'ignore' })
    } catch (error) {
      if (process.env.CI === 'true') throw error
      console.log('skipped: the rolling restart needs redis-server on PATH')
      return undefined
    }
    // Below the ports that systems give to who asks for any: one of those may be another test's by then.
    const port = randomInt(10_000, 32_768)
    const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
    const redis = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'ignore'] })
    const exited = once(redis, 'exit')
    onTestFinished(async () => {
      redis.kill()
      await exited
    })
    let said = ''
    for await (const piece of redis.stdout.iterator({ destroyOnReturn: false })) {
      said += piece
      if (said.includes('Ready to accept')) break
    }
    if (!said.includes('Ready to accept')) return startRedis()
    redis.stdout.resume()
    return `redis://127.0.0.1:${port}`
  }

  test('a rolling restart is not seen', async ({ skip }) => {
    const redis = await startRedis()
    if (!redis) return skip()
    const env = { RELAY_STORE: 'redis', RELAY_REDIS_URL: redis, RELAY_SHUTDOWN_GRACE: '30s' }
    const [old, fresh] = [await machine.start(env), await machine.start(env)]
    onTestFinished(() => fresh.stop())
    let now = old.url
    const site = await serveSite(await bundle(reactApp('')), () => now)
    const page = await open(machine.browser, `${site.url}/`)
    await page.waitForFunction(() => typeof chat === 'object')
    await page.evaluate(() => void chat.sendMessage('Hello'))
    await grown(page)
    now = fresh.url
    await old.stop()
    await ended(page)
    expect(await shown(page)).toEqual(['Hello', await wholeAnswer('Hello')])
    expect(await page.evaluate(() => statuses)).toContain('reconnecting')
  })
})
