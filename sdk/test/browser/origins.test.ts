import { expect, onTestFinished, test } from 'vitest'
import { clientFor } from '../helpers.js'
import { describeInBrowser } from './chromium.js'
import { bundle, serveSite } from './site.js'

const script = `
  import { WebsopyClient } from '@websopy/sdk'
  window.ask = async (baseURL, credentials) => {
    const { ai } = new WebsopyClient({ baseURL, credentials, maxRetries: 0 })
    const messages = [{ role: 'user', content: 'Hello' }]
    const stream = await ai.chatStream({ model: 'demo-fast', resumable: true, messages })
    const text = await stream.text()
    return [text, await (await ai.resumeStream(stream.id)).text()]
  }`

declare const ask: (baseURL: string, credentials?: string) => Promise<string[]>

describeInBrowser('a page of another origin', (machine) => {
  test.each([
    ['listed', 'app.x.localhost', (port: string) => `http://app.x.localhost:${port}`, true],
    ['below a listed domain', 'pr-12.x.localhost', (port: string) => `http://*.x.localhost:${port}`, true],
    ['beside a listed domain', 'x.localhost', (port: string) => `http://*.x.localhost:${port}`, false],
    ['where all may, without its cookies', 'app.x.localhost', () => '*', undefined],
  ] as const)('%s', async (_, host, listed, allowed) => {
    const site = await serveSite(await bundle(script), 'http://127.0.0.1:9')
    const { port } = new URL(site.url)
    const relay = await machine.start({ RELAY_CORS_ORIGINS: listed(port) })
    onTestFinished(() => relay.stop())
    const context = await machine.browser.newContext()
    onTestFinished(() => context.close())
    await context.addCookies([{ name: 'session', value: '1', domain: 'relay.x.localhost', path: '/' }])
    const page = await context.newPage()
    await page.goto(`http://${host}:${port}/`)
    await page.waitForFunction(() => typeof ask === 'function')
    const result = (credentials?: string) =>
      page.evaluate(
        ([url, credentials]) => ask(url!, credentials).catch(({ code }) => code),
        [relay.url.replace('127.0.0.1', 'relay.x.localhost'), credentials],
      )

    const messages = [{ role: 'user' as const, content: 'Hello' }]
    const { content } = await clientFor(relay.url).ai.chat({ model: 'demo-fast', messages })
    expect(await result(), 'without credentials').toEqual(
      allowed === false ? 'connection_error' : [content, content],
    )
    const posted = page.waitForRequest((request) => request.method() === 'POST')
    expect(await result('include'), 'with credentials').toEqual(
      allowed ? [content, content] : 'connection_error',
    )
    if (allowed) expect((await (await posted).allHeaders()).cookie).toBe('session=1')
  })
})
