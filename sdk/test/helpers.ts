import { type ChatStream, type ClientOptions, type StreamChunk, WebsopyClient } from '@websopy/sdk'
import { expect, onTestFinished, vi } from 'vitest'

export const messages = [{ role: 'user' as const, content: 'Hello' }]

export const clientFor = (baseURL: string, options: ClientOptions = {}): WebsopyClient =>
  new WebsopyClient({ baseURL, ...options })

/** Back-off without waiting: full jitter that always draws nought. */
export const noBackoff = (): void => {
  vi.spyOn(Math, 'random').mockReturnValue(0)
}

/** Reads to the end and tells what came and how it ended. */
export async function consume(
  stream: AsyncIterable<StreamChunk>,
): Promise<{ chunks: StreamChunk[]; error: unknown }> {
  const chunks: StreamChunk[] = []
  try {
    for await (const chunk of stream) chunks.push(chunk)
    return { chunks, error: undefined }
  } catch (error) {
    return { chunks, error }
  }
}

export const textOf = (chunks: StreamChunk[]): string =>
  chunks.map((chunk) => (chunk.type === 'content' ? chunk.content : '')).join('')

/** Records the events of a stream, in order. */
export function record(stream: ChatStream): { events: string[]; ended: Promise<void> } {
  const events: string[] = []
  stream.on('data', (chunk) => events.push(chunk.type === 'content' ? chunk.content : chunk.type))
  stream.on('error', (error) => events.push(error.name))
  stream.on('abort', (error) => events.push(error.name))
  const ended = new Promise<void>((resolve) => {
    stream.on('end', () => {
      events.push('end')
      resolve()
    })
  })
  return { events, ended }
}

/**
 * Puts others in the place of the timers that the SDK sets. undici, which is Node's fetch, keeps timers of its own,
 * which are told apart by who set them.
 */
function replaceTimers(
  set: (call: () => void, ms: number) => unknown,
  clear: (timer: unknown) => void,
): void {
  const { setTimeout, clearTimeout } = globalThis
  const timers = new Set<unknown>()
  globalThis.setTimeout = ((call: () => void, ms: number) => {
    if (!new Error().stack?.split('\n')[2]?.includes('/src/')) return setTimeout(call, ms)
    const timer = set(call, ms)
    timers.add(timer)
    return timer
  }) as typeof setTimeout
  globalThis.clearTimeout = ((timer: Parameters<typeof clearTimeout>[0]) => {
    if (timers.delete(timer)) clear(timer)
    else clearTimeout(timer)
  }) as typeof clearTimeout
  onTestFinished(() => {
    Object.assign(globalThis, { setTimeout, clearTimeout })
  })
}

/** Watches the timers that the SDK sets: `left()` is how many still run. */
export function watchTimers(): { left: () => number; delays: number[] } {
  const running = new Set<unknown>()
  const delays: number[] = []
  const { setTimeout, clearTimeout } = globalThis
  replaceTimers(
    (call, ms) => {
      delays.push(ms)
      const timer = setTimeout(() => {
        running.delete(timer)
        call()
      }, ms)
      running.add(timer)
      return timer
    },
    (timer) => {
      running.delete(timer)
      clearTimeout(timer as Parameters<typeof clearTimeout>[0])
    },
  )
  return { left: () => running.size, delays }
}

/**
 * Holds the timers that the SDK sets: `pass(ms)` is what makes time pass for them, so that a busy machine makes none
 * run out. `left()` is how long each has still to run; what a test before has left under way may be among them.
 */
export function holdTimers(): { left: () => number[]; pass: (ms: number) => void } {
  const running = new Map<unknown, { call: () => void; at: number }>()
  let now = 0
  replaceTimers(
    (call, ms) => {
      const timer = {}
      running.set(timer, { call, at: now + ms })
      return timer
    },
    (timer) => running.delete(timer),
  )
  return {
    left: () => [...running.values()].map(({ at }) => at - now),
    pass: (ms) => {
      now += ms
      for (const [timer, { call, at }] of running) if (at <= now && running.delete(timer)) call()
    },
  }
}

/** What nobody catches, until the test is over. */
export function reports(): unknown[] {
  const reported: unknown[] = []
  const before = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException').on('uncaughtException', (error) => reported.push(error))
  onTestFinished(() => {
    process.removeAllListeners('uncaughtException')
    for (const listener of before) process.on('uncaughtException', listener)
  })
  return reported
}

/** Waits until `check` holds; fails with what it says when it never does. */
export const eventually = (check: () => void | Promise<void>): Promise<void> =>
  vi.waitFor(check, { timeout: 15_000, interval: 5 })

export const expectText = async (stream: ChatStream, text: string): Promise<void> => {
  const { chunks, error } = await consume(stream)
  expect(error).toBeUndefined()
  expect(textOf(chunks)).toBe(text)
}
