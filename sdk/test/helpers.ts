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
 * Watches the timers that the SDK sets: `left()` is how many still run. undici, which is Node's
 * fetch, keeps timers of its own, which are told apart by who set them.
 */
export function watchTimers(): { left: () => number; delays: number[] } {
  const running = new Set<unknown>()
  const delays: number[] = []
  const { setTimeout: set, clearTimeout: clear } = globalThis
  globalThis.setTimeout = ((call: () => void, ms: number) => {
    if (!new Error().stack?.split('\n')[2]?.includes('/src/')) return set(call, ms)
    delays.push(ms)
    const timer = set(() => {
      running.delete(timer)
      call()
    }, ms)
    running.add(timer)
    return timer
  }) as typeof setTimeout
  globalThis.clearTimeout = ((timer: Parameters<typeof clear>[0]) => {
    running.delete(timer)
    clear(timer)
  }) as typeof clearTimeout
  onTestFinished(() => {
    globalThis.setTimeout = set
    globalThis.clearTimeout = clear
  })
  return { left: () => running.size, delays }
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
  vi.waitFor(check, { timeout: 5000, interval: 5 })

export const expectText = async (stream: ChatStream, text: string): Promise<void> => {
  const { chunks, error } = await consume(stream)
  expect(error).toBeUndefined()
  expect(textOf(chunks)).toBe(text)
}
