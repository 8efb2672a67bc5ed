import type { Page } from 'playwright-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { clientFor } from '../helpers.js'
import { blockWith } from '../readme.js'
import { describeInBrowser, open } from './chromium.js'
import { bundle, serveSite } from './site.js'

const react = `
  import { createRoot } from 'react-dom/client'
  import { StrictMode } from 'react'
  import { Chat } from './examples/Chat.tsx'
  createRoot(document.getElementById('app')).render(<StrictMode><Chat /></StrictMode>)`
const vue = `
  import { createApp } from 'vue'
  import Chat from './examples/Chat.vue'
  createApp(Chat).mount('#app')`

describeInBrowser('in a built page', (machine) => {
  const lines = (page: Page) => page.locator('p').allTextContents()
  const send = async (page: Page, text: string) => {
    await page.fill('input', text)
    await page.press('input', 'Enter')
  }
  const grown = (page: Page, length: number) =>
    page.waitForFunction(
      (n) => (document.querySelector('p:last-of-type')?.textContent?.length ?? 0) > n,
      length,
    )
  const idle = (page: Page) => page.getByRole('button', { name: 'Send' }).waitFor()
  /** What the demo provider answers: at any speed the same. */
  const wholeAnswer = async (content: string) =>
    (
      await clientFor(machine.relay.url).ai.chat({
        model: 'demo-fast',
        messages: [{ role: 'user', content }],
      })
    ).content

  describe.each([
    ['React', react],
    ['Vue', vue],
  ])('with %s', (_, source) => {
    let script: string
    beforeAll(async () => {
      script = await bundle(source)
    })

    test('the component of the README streams, and remembers', async () => {
      const page = await open(machine.browser, (await serveSite(script, machine.relay.url)).url)
      await send(page, 'Hello')
      await grown(page, 30)
      expect(await page.getByRole('button', { name: 'Stop' }).isVisible()).toBe(true)
      await idle(page)
      await send(page, 'And now?')
      await idle(page)
      expect(await lines(page)).toEqual([
        'user: Hello',
        `assistant: ${await wholeAnswer('Hello')}`,
        'user: And now?',
        `assistant: ${await wholeAnswer('And now?')}`,
      ])
    })

    test('it stops, and keeps what is there', async () => {
      const page = await open(machine.browser, (await serveSite(script, machine.relay.url)).url)
      await send(page, 'Hello')
      await grown(page, 30)
      await page.getByRole('button', { name: 'Stop' }).click()
      await idle(page)
      const [, answer] = await lines(page)
      expect(answer!.length).toBeGreaterThan(30)
      expect(answer!.length).toBeLessThan((await wholeAnswer('Hello')).length)
    })

    test('a connection killed in mid-answer is not seen', async () => {
      const site = await serveSite(script, machine.relay.url)
      const page = await open(machine.browser, site.url)
      await send(page, 'Hello')
      await grown(page, 60)
      site.cut()
      await idle(page)
      expect(await lines(page)).toEqual(['user: Hello', `assistant: ${await wholeAnswer('Hello')}`])
    })
  })

  test.each([
    ['EventSource', 'new EventSource'],
    ['fetch', 'TextDecoderStream'],
  ])('the %s of the README shows the answer', async (_, text) => {
    const { url } = await serveSite(blockWith(text), machine.relay.url)
    const page = await open(machine.browser, url)
    const whole = await wholeAnswer('Hello')
    await page.waitForFunction((whole) => document.body.textContent === whole, whole)
  })

  test('the client works from another origin that the relay allows', async () => {
    const script = await bundle("import * as sdk from '@websopy/sdk'\nwindow.sdk = sdk")
    const site = await serveSite(script, machine.relay.url)
    const allowing = await machine.start({
      RELAY_CORS_ORIGINS: site.url,
      RELAY_API_KEYS: 'web:sk-test-0123456789',
    })
    try {
      const page = await open(machine.browser, site.url)
      await page.waitForFunction('window.sdk')
      const [text, id, refusal] = (await page.evaluate(`(async () => {
        const baseURL = ${JSON.stringify(allowing.url)}
        const messages = [{ role: 'user', content: 'Hello' }]
        const client = new sdk.WebsopyClient({ baseURL, apiKey: () => 'sk-test-0123456789' })
        const stream = await client.ai.chatStream({ messages, model: 'demo-fast', resumable: true })
        const text = await stream.text()
        const wrong = new sdk.WebsopyClient({ baseURL, apiKey: () => 'wrong' })
        const refusal = await wrong.ai.chatStream({ messages }).catch(({ code, requestId }) => [code, typeof requestId])
        return [text, stream.id, refusal]
      })()`)) as [string, string, string[]]
      expect(text).toContain('Hello')
      expect(id).toMatch(/./)
      expect(refusal).toEqual(['unauthorized', 'string'])
    } finally {
      await allowing.stop()
    }
  })
})
