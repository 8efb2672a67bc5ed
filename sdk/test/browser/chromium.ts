import { execFileSync } from 'node:child_process'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, onTestFinished } from 'vitest'
import { buildRelay, type Relay } from '../relay.js'

/** Finds Chromium on the machine. Gives nothing, and says so, without it; in CI that is a failure. */
function findChromium(): string | undefined {
  if (process.env.CHROMIUM_PATH) return process.env.CHROMIUM_PATH
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      return execFileSync('which', [name], { encoding: 'utf8' }).trim()
    } catch {
      // Not this one.
    }
  }
  if (process.env.CI === 'true') throw new Error('no chromium on PATH, and CHROMIUM_PATH is not set')
  console.log('skipped: the browser tests need chromium on PATH, or CHROMIUM_PATH')
  return undefined
}

/** Starts Chromium with a profile of its own, which asks nothing of any network by itself. */
const launch = (executablePath: string): Promise<Browser> =>
  chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })

export interface Machine {
  browser: Browser
  relay: Relay
  /** Starts another relay, with settings of its own. */
  start: (env: Record<string, string>) => Promise<Relay>
}

/** Describes tests that need Chromium and the relay; both are started once, before the first test. */
export function describeInBrowser(name: string, tests: (machine: Machine) => void): void {
  const executable = findChromium()
  const built = executable ? buildRelay() : undefined
  describe.skipIf(!built)(name, () => {
    const machine = {} as Machine
    beforeAll(async () => {
      machine.start = built!.start
      machine.relay = await built!.start()
      machine.browser = await launch(executable!)
    })
    afterAll(async () => {
      await machine.browser.close()
      await machine.relay.stop()
      built!.remove()
    })
    tests(machine)
  })
}

/** Opens a page in a context of its own. At the end of the test it must not have complained. */
export async function open(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<Page> {
  const context = await browser.newContext({ locale: 'en-US', ...options })
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => {
    // A refused request and a cut connection are what some tests are about.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
      complaints.push(message.text())
    }
  })
  onTestFinished(async () => {
    await context.close()
    expect(complaints, 'what the page complained of').toEqual([])
  })
  await page.goto(url)
  return page
}
