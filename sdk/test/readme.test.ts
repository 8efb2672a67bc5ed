import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { APIError, StreamError } from '@websopy/sdk'
import { expect, onTestFinished, test, vi } from 'vitest'
import { clientFor, expectText, messages } from './helpers.js'
import { blocksOf, blockWith } from './readme.js'
import { answer, content, done, failure, serve } from './server.js'

const sdk = fileURLToPath(new URL('..', import.meta.url))

/** A directory inside of the package, where imports of the package and of its tools resolve. */
function scratch(): string {
  const root = join(sdk, 'node_modules', '.readme')
  mkdirSync(root, { recursive: true })
  const directory = mkdtempSync(join(root, 'test-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  return directory
}

/** Writes a block to the path that its first line names, if it names one. */
function place(directory: string, code: string, otherwise: string): string {
  const file = join(directory, /^\/\/ ([\w./[\]]+)\n/.exec(code)?.[1] ?? otherwise)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, code)
  return file
}

test('both languages show the same code', () => {
  expect(blocksOf('README.zh.md')).toEqual(blocksOf('README.md'))
})

test.each([['Chat.tsx', 'export function Chat()']])('%s is shown as it is tested', (name, text) => {
  expect(blockWith(text)).toBe(readFileSync(join(sdk, 'examples', name), 'utf8'))
})

test('the code is correct TypeScript, for a project that bundles', () => {
  const directory = scratch()
  const blocks = [...blocksOf('README.md'), ...blocksOf('../docs/frontends.md')]
  blocks.forEach(({ language, code }, i) => {
    if (language !== 'ts' && language !== 'tsx') return
    place(directory, code, `block${i}.${language}`)
  })
  copyFileSync(join(sdk, 'examples', 'wxFetch.ts'), join(directory, 'wxFetch.ts'))
  const config = {
    extends: join(sdk, 'tsconfig.test.json'),
    compilerOptions: {
      module: 'esnext',
      moduleResolution: 'bundler',
      rootDir: '/',
      noUnusedLocals: false,
      exactOptionalPropertyTypes: false,
      paths: {
        '@websopy/sdk': [join(sdk, 'src/index.ts')],
        '@websopy/sdk/*': [join(sdk, 'src/*.ts')],
        '@/*': [join(directory, '*')],
      },
    },
    include: [directory],
  }
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(config))
  const tsc = join(sdk, 'node_modules', '.bin', 'tsc')
  expect(() => execFileSync(tsc, ['--noEmit', '-p', directory], { encoding: 'utf8' })).not.toThrow()
})

test("the project's README reads as the guide does, to the end that counts", () => {
  const [reader, ...others] = blocksOf('../README.md').filter(({ code }) =>
    code.includes('TextDecoderStream'),
  )
  expect(reader?.code).toBe(blockWith('TextDecoderStream'))
  expect(others).toEqual([])
})

test('the Next.js route passes answers, failures and refusals on', async () => {
  const { url, seen } = await serve(
    answer('Hel', 'lo'),
    async (exchange) => {
      await exchange.stream().frames(content('a'), failure)
      exchange.end()
    },
    (exchange) =>
      exchange.json(401, { error: 'No', code: 'unauthorized', requestId: 'r1', retryable: false }),
  )
  vi.stubEnv('RELAY_URL', url)
  vi.stubEnv('WEBSOPY_API_KEY', 'k')
  onTestFinished(() => void vi.unstubAllEnvs())
  const directory = scratch()
  const { pathname } = pathToFileURL(place(directory, blockWith('// lib/relay.ts'), ''))
  const route = blockWith('// app/v1/ai/chat/stream/route.ts').replace('@/lib/relay', pathname)
  const { POST } = await import(place(directory, route, ''))
  const client = clientFor('http://next', { fetch: async (url, init) => POST(new Request(url, init)) })
  await expectText(await client.ai.chatStream({ messages, model: 'm' }), 'Hello')
  expect(JSON.parse(seen[0]!.body)).toMatchObject({ messages, model: 'm' })
  expect(seen[0]?.headers.authorization).toBe('Bearer k')
  await expect((await client.ai.chatStream({ messages })).text()).rejects.toBeInstanceOf(StreamError)
  const refusal = await client.ai.chatStream({ messages }).catch((error: unknown) => error)
  expect(refusal).toBeInstanceOf(APIError)
  expect(refusal).toMatchObject({ status: 401, code: 'unauthorized', requestId: 'r1' })
})

/** A stand-in for WeChat's `wx.request`, on top of Node's fetch. */
function wxRequest({ url, method, header, data, success, fail }: WechatMiniprogram.RequestOption) {
  const controller = new AbortController()
  let onHeaders = (_: object) => {}
  let onChunk = (_: object) => {}
  const run = async () => {
    const response = await fetch(url, {
      method: method!,
      headers: header as Record<string, string>,
      body: (data as string) ?? null,
      signal: controller.signal,
    })
    onHeaders({ statusCode: response.status, header: Object.fromEntries(response.headers) })
    for await (const piece of response.body!) onChunk({ data: piece.slice().buffer })
  }
  run().then(
    () => success?.({} as never),
    (error) => fail?.({ errMsg: String(error) } as never),
  )
  return {
    abort: () => controller.abort(),
    onHeadersReceived: (listener: typeof onHeaders) => {
      onHeaders = listener
    },
    onChunkReceived: (listener: typeof onChunk) => {
      onChunk = listener
    },
  }
}

test('the mini program adapter streams, refuses, breaks and aborts', async () => {
  vi.stubGlobal('wx', { request: wxRequest })
  onTestFinished(() => void vi.unstubAllGlobals())
  let left: Promise<unknown> | undefined
  const { url } = await serve(
    answer('量子', '👋🏽'),
    (exchange) => exchange.json(400, { error: 'Wrong', code: 'invalid_request' }),
    answer('Hi'),
    async (exchange) => {
      await exchange.stream().frames(content('a'))
      exchange.reset()
    },
    (exchange) => {
      left = exchange.closed
      return exchange.stream().frames(content('a'), { ...done, type: 'ping' })
    },
  )
  const { wxFetch } = await import('../examples/wxFetch.js')
  const { ai } = clientFor(url, { fetch: wxFetch })
  await expectText(await ai.chatStream({ messages }), '量子👋🏽')
  await expect(ai.chatStream({ messages })).rejects.toMatchObject({ status: 400, code: 'invalid_request' })
  expect(await ai.chat({ messages })).toMatchObject({ content: 'Hi' })
  await expect((await ai.chatStream({ messages })).text()).rejects.toMatchObject({
    name: 'StreamInterruptedError',
    partial: 'a',
  })
  for await (const _ of await ai.chatStream({ messages })) break
  await left
})
