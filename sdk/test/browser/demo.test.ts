import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'
import { expect, test } from 'vitest'
import { clientFor } from '../helpers.js'
import { proxyTo } from '../proxy.js'
import { describeInBrowser, open } from './chromium.js'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
describeInBrowser('the demo page', (machine) => {
  async function ask(page: Page, model: string, question: string) {
    await page.selectOption('#model', model)
    await page.fill('#question', question)
    await page.press('#question', 'Enter')
  }
  const words = async (page: Page) =>
    (await page.locator('.answer .text').last().innerText()).split(/\s+/).length
  const begun = (page: Page) =>
    page.waitForFunction(() => document.querySelectorAll('.answer .text p').length > 1)
  const ended = (page: Page) => page.locator('#send').waitFor()
  /** The conversation as the page keeps it, text for text. */
  const kept = (page: Page) =>
    page.evaluate(
      () => JSON.parse(sessionStorage.getItem('chat')!).messages as { role: string; content: string }[],
    )
  /** What the demo provider answers: at any speed the same. */
  const wholeAnswer = async (content: string) =>
    (
      await clientFor(machine.relay.url).ai.chat({
        model: 'demo-fast',
        messages: [{ role: 'user', content }],
      })
    ).content

  async function accessible(page: Page) {
    // Not as a script element: the page's policy would refuse it.
    const violations = await page.evaluate(
      `${axe}; axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]))`,
    )
    expect(violations).toEqual([])
  }

  test('streams word by word, and counts', async () => {
    const page = await open(machine.browser, machine.relay.url)
    await ask(page, 'demo', 'Hello')
    await begun(page)
    const before = await words(page)
    await page.waitForFunction(
      (n) => document.querySelector('.answer .text')!.textContent!.split(/\s+/).length > n + 10,
      before,
    )
    expect(await page.locator('#stop').isVisible()).toBe(true)
    await ended(page)
    expect(await kept(page)).toMatchObject([
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: await wholeAnswer('Hello'), finishReason: 'stop' },
    ])
    const facts = await page.locator('.facts').innerText()
    expect(facts).toMatch(/first chunk \d+ ms/)
    expect(facts).toMatch(/\d+ chunks, \d+\/s/)
    expect(facts).toMatch(/\d+ \+ \d+ tokens/)
  })

  test('shows thinking and tool calls', async () => {
    const page = await open(machine.browser, machine.relay.url)
    await ask(page, 'demo-reasoning', 'Hello')
    await page.locator('.thinking[open] .thoughts:not(:empty)').waitFor()
    await ended(page)
    expect(await page.locator('.thinking').getAttribute('open')).toBeNull()
    await ask(page, 'demo-tools', 'Hello')
    await ended(page)
    expect(await page.locator('.tools figure').first().innerText()).toMatch(/Tool call \w+[\s\S]*\{/)
  })

  test('is used with the keyboard alone', async () => {
    const page = await open(machine.browser, machine.relay.url)
    await page.keyboard.type('first line')
    await page.keyboard.press('Shift+Enter')
    await page.keyboard.type('second line')
    await page.keyboard.press('Enter')
    await begun(page)
    await page.keyboard.press('Escape')
    await ended(page)
    const [question, answer] = await kept(page)
    expect(question?.content).toBe('first line\nsecond line')
    expect(answer).toMatchObject({ finishReason: 'stopped' })
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('question')
  })

  test('stops, keeps what is there, and asks again', async () => {
    const page = await open(machine.browser, machine.relay.url)
    await ask(page, 'demo-long', 'Hello')
    await begun(page)
    await page.click('#stop')
    await ended(page)
    expect(await page.locator('.facts').innerText()).toContain('Stopped')
    await page.selectOption('#model', 'demo-fast')
    await page.getByRole('button', { name: 'Ask again' }).click()
    await page.locator('.facts', { hasText: 'demo-fast' }).waitFor()
    expect((await kept(page)).map(({ content }) => content)).toEqual(['Hello', await wholeAnswer('Hello')])
  })

  test('a connection killed in mid-answer is not seen', async () => {
    const proxy = await proxyTo(machine.relay.url)
    const page = await open(machine.browser, proxy.url)
    await ask(page, 'demo', 'Hello')
    for (let i = 0; i < 2; i++) {
      const before = await words(page).catch(() => 0)
      await page.waitForFunction(
        (n) => (document.querySelector('.answer .text')?.textContent ?? '').split(/\s+/).length > n + 10,
        before,
      )
      proxy.cut()
    }
    await ended(page)
    expect(await page.locator('#problem').innerText()).toBe('')
    expect((await kept(page))[1]?.content).toBe(await wholeAnswer('Hello'))
  })

  test('a reload in mid-answer loses nothing', async () => {
    const page = await open(machine.browser, machine.relay.url)
    await ask(page, 'demo', 'Hello')
    await begun(page)
    await page.reload()
    await page.locator('#stop').waitFor()
    await ended(page)
    expect(await page.locator('#problem').innerText()).toBe('')
    expect((await kept(page)).map(({ content }) => content)).toEqual(['Hello', await wholeAnswer('Hello')])
    expect(await page.locator('#model').inputValue()).toBe('demo')
    await page.getByRole('button', { name: 'New chat' }).click()
    await page.locator('#welcome').waitFor()
    await page.reload()
    expect(await page.locator('#welcome').isVisible()).toBe(true)
  })

  test('says an error in words, keeps the text, and tries again', async () => {
    const page = await open(machine.browser, machine.relay.url)
    await ask(page, 'demo-error', 'Hello')
    const alert = page.getByRole('alert')
    await alert.getByText('The provider failed.').waitFor()
    expect(await alert.innerText()).toMatch(/Request \w+/)
    expect(await page.locator('.answer .text').innerText()).not.toBe('')
    await accessible(page)
    await page.selectOption('#model', 'demo-fast')
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.locator('.facts', { hasText: 'demo-fast' }).waitFor()
    expect(await alert.innerText()).toBe('')
  })

  test("lists a real provider's models, and none of the demo's", async () => {
    const real = await machine.start({
      UPSTREAM_KIND: 'openai',
      UPSTREAM_BASE_URL: 'http://127.0.0.1:9',
      UPSTREAM_MODEL: 'meta/llama',
      UPSTREAM_MODELS: 'meta/llama,own=other,gpt-*',
    })
    try {
      const page = await open(machine.browser, real.url)
      await page.locator('#model option[value="own"]').waitFor({ state: 'attached' })
      expect(await page.locator('#model option').allTextContents()).toEqual([
        'Default model',
        'meta/llama',
        'own',
      ])
      expect(await page.locator('#samples').innerText()).not.toMatch(/failure|tool|weather/i)
    } finally {
      await real.stop()
    }
  })

  test('says that it is reconnecting, and goes on', async () => {
    const proxy = await proxyTo(machine.relay.url)
    const page = await open(machine.browser, proxy.url)
    await ask(page, 'demo', 'Hello')
    await begun(page)
    proxy.down()
    await page.locator('#reconnecting').waitFor()
    if (process.env.SCREENSHOTS)
      await page.screenshot({ path: `${process.env.SCREENSHOTS}/reconnecting.png` })
    proxy.up()
    await page.locator('#reconnecting').waitFor({ state: 'hidden' })
    await ended(page)
    expect((await kept(page))[1]?.content).toBe(await wholeAnswer('Hello'))
  })

  test('a long answer stays smooth', async () => {
    const page = await open(machine.browser, machine.relay.url)
    const { worst, first, last } = (await page.evaluate(`(async () => {
      const { showMarkdown } = await import('/ui/markdown.js')
      const root = document.createElement('div')
      root.className = 'text'
      const item = document.createElement('li')
      item.className = 'answer'
      item.append(root)
      document.getElementById('conversation').append(item)
      const part = '## Part\\n\\nSome **bold** words, a [link](https://example.com) and \`code\`. '.repeat(3)
      const piece = part + '\\n\\n- one\\n- two\\n\\n\`\`\`js\\n' + 'const a = 1\\n'.repeat(20) + '\`\`\`\\n\\n'
      const whole = piece.repeat(Math.ceil(200 * 1024 / piece.length))
      const times = []
      // 100 chunks of 2 KiB, as the store publishes them: in each frame what has come since the last one.
      for (let end = 0; end < whole.length; end += 2048) {
        await new Promise(requestAnimationFrame)
        const began = performance.now()
        showMarkdown(root, whole.slice(0, end + 2048))
        scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })
        times.push(performance.now() - began)
      }
      item.remove()
      const middle = (some) => some.sort((a, b) => a - b)[Math.floor(some.length / 2)]
      return { worst: Math.max(...times), first: middle(times.slice(0, 25)), last: middle(times.slice(-25)) }
    })()`)) as { worst: number; first: number; last: number }
    console.log(
      `200 KiB of Markdown: the longest frame took ${worst.toFixed(1)} ms, the first ${first.toFixed(1)} ms, the last ${last.toFixed(1)} ms`,
    )
    // A busy machine holds up some frames, or all. Work that grows with the answer takes seven times as long at its end.
    expect(last, 'what the last frames take, in ms').toBeLessThan(Math.max(50, 4 * first))
  })

  test('asks for a key where the relay wants one, and keeps it in the tab', async () => {
    const closed = await machine.start({ RELAY_API_KEYS: 'web:sk-test-0123456789' })
    try {
      const page = await open(machine.browser, closed.url)
      await ask(page, '', 'Hello')
      await page.getByRole('alert').getByText('API key').waitFor()
      await page.keyboard.type('sk-test-0123456789')
      await page.keyboard.press('Enter')
      await page.selectOption('#model', 'demo-fast')
      await page.getByRole('button', { name: 'Try again' }).click()
      await page.locator('.facts', { hasText: 'demo-fast' }).waitFor()
      expect(await page.evaluate(() => [sessionStorage.getItem('key'), Object.keys(localStorage)])).toEqual([
        'sk-test-0123456789',
        [],
      ])
    } finally {
      await closed.stop()
    }
  })

  test("speaks the browser's language, and the other one", async () => {
    const page = await open(machine.browser, machine.relay.url, { locale: 'zh-CN' })
    expect(await page.locator('#send').innerText()).toBe('发送')
    expect(await page.evaluate(() => document.documentElement.lang)).toBe('zh-CN')
    await ask(page, 'demo-fast', '你好')
    await page.locator('.facts', { hasText: '首块' }).waitFor()
    await page.click('#language')
    await page.locator('.facts', { hasText: 'first chunk' }).waitFor()
    expect(await page.locator('#send').innerText()).toBe('Send')
    await page.reload()
    expect(await page.locator('#send').innerText()).toBe('Send')
  })

  test('what a model writes is text, never markup', async () => {
    const page = await open(machine.browser, machine.relay.url)
    await ask(page, 'demo-fast', '<img src=x onerror=alert(1)> **bold** `code` [link](javascript:alert(1))')
    await ended(page)
    const answer = page.locator('.answer .text')
    expect(await answer.innerText()).toContain('<img src=x onerror=alert(1)>')
    expect(await answer.locator('img, a').count()).toBe(0)
    expect(await answer.locator('strong').innerText()).toBe('bold')
  })

  test.each([
    ['light', 'en-US', 1100],
    ['dark', 'zh-CN', 390],
  ] as const)('is accessible: %s, %s, %i wide', async (colorScheme, locale, width) => {
    const page = await open(machine.browser, machine.relay.url, {
      colorScheme,
      locale,
      viewport: { width, height: 800 },
    })
    await accessible(page)
    await page.click('#access summary')
    await accessible(page)
    await page.click('#access summary')
    await ask(page, 'demo-reasoning', 'Hello')
    await begun(page)
    await accessible(page)
    await page.locator('#stop').click()
    await ask(page, 'demo-tools', 'Hello')
    await ended(page)
    await accessible(page)
    expect(
      await page.evaluate(() => document.documentElement.scrollWidth - innerWidth),
      'sideways',
    ).toBeLessThanOrEqual(0)
  })

  test('asks nothing of another origin, and obeys a strict policy', async () => {
    const page = await open(machine.browser, 'about:blank')
    const urls: string[] = []
    page.on('request', (request) => urls.push(request.url()))
    const response = await page.goto(machine.relay.url)
    expect(response?.headers()['content-security-policy']).toContain("default-src 'none'")
    await ask(page, 'demo-fast', 'Hello')
    await ended(page)
    expect(urls.length).toBeGreaterThan(5)
    expect(urls.filter((url) => !url.startsWith(machine.relay.url) && !url.startsWith('about:'))).toEqual([])
  })

  test("the reader's choice to see the thinking stays", async () => {
    const page = await open(machine.browser, machine.relay.url)
    await ask(page, 'demo-reasoning', 'Hello')
    await begun(page)
    const thinking = page.locator('.thinking')
    expect(await thinking.getAttribute('open'), 'closed by the answer').toBeNull()
    await thinking.locator('summary').click()
    await ended(page)
    await ask(page, 'demo-fast', 'And now?')
    await ended(page)
    expect(await thinking.first().getAttribute('open')).not.toBeNull()
  })

  test('looks as the README shows it', async () => {
    const page = await open(machine.browser, machine.relay.url, {
      viewport: { width: 1100, height: 940 },
      deviceScaleFactor: 2,
    })
    await ask(page, 'demo-tools', 'What is the weather in Paris?')
    await ended(page)
    // An answer that stands still in its middle.
    await ask(page, 'demo-stall', 'And how does an answer reach this page?')
    await page.waitForFunction(
      () => {
        const now = document.querySelector('.answer:last-child .text')?.textContent
        const { before } = window as { before?: string | null }
        Object.assign(window, { before: now })
        return now && now === before
      },
      undefined,
      { polling: 1000 },
    )
    await page.selectOption('#model', 'demo')
    const path = process.env.SCREENSHOT
    expect((await page.screenshot(path ? { path } : {})).length).toBeGreaterThan(10_000)
  })
})
