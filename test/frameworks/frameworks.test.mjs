// The relay behind real frameworks: what a client notices, with the SDK and without it.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, describe, test as testWith } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startApps, startRelay, stop } from './apps.mjs'
import { proxyTo } from './network.mjs'
import { startProvider } from './provider.mjs'

const provider = await startProvider()
const relay = await startRelay(provider.url)
const ways = await startApps(relay)
const { WebsopyClient } = await import('@websopy/sdk')

after(async () => {
  await stop()
  provider.stop()
  for (const { back } of Object.values(ways)) back.close()
})

/** Fails a test that waits for what does not come. */
const soon = (promise, what, ms = 10_000) =>
  Promise.race([
    promise,
    sleep(ms, undefined, { ref: false }).then(() => assert.fail(`in ${ms} ms not: ${what}`)),
  ])

const post = (url, body, init = {}) =>
  fetch(`${url}/v1/ai/chat/stream`, {
    method: 'POST',
    body: JSON.stringify(body),
    ...init,
    headers: { 'content-type': 'application/json', accept: 'text/event-stream', ...init.headers },
  })

/** Reads a response until it has a text. */
async function readUntil(reader, text) {
  const utf8 = new TextDecoder()
  let all = ''
  while (!all.includes(text)) {
    const { done, value } = await reader.read()
    assert.ok(!done, `the end came before ${text}: ${all}`)
    all += utf8.decode(value, { stream: true })
  }
  return all
}

describe('behind', { concurrency: true }, () => {
  for (const [name, { url, back, own }] of Object.entries(ways)) {
    if (!name.includes(process.env.WAY ?? '')) continue
    // One after another: a cut is meant for one test only.
    describe(name, { concurrency: 1 }, () => suite(url, back, own, name))
  }
})

function suite(url, back, own, name) {
  const test = (what, run, timeout = 20_000) => testWith(what, { timeout }, run)
  const broken = name.includes('rule')
  // The rule does not pass a cut on, either: its client only notices the silence.
  const idleTimeout = broken ? 2000 : 60_000
  // These pass headers on with the first byte, and a plain stream's may be a ping's after 15 s.
  const late = /Nitro|Vite|rewrites/.test(name)
  const client = (base = url, idle = idleTimeout) => new WebsopyClient({ baseURL: base, idleTimeout: idle })
  /** The way there, with a connection in front that can be cut. */
  const front = async (t) => {
    const proxy = await proxyTo(url)
    t.after(() => proxy.close())
    return { cut: proxy.cut, url: proxy.url + new URL(url).pathname.replace(/\/$/, '') }
  }

  test('headers come at once, and each word when it is there', async () => {
    const question = provider.question()
    const response = await soon(post(url, { messages: question.messages, resumable: late }), 'headers')
    assert.equal(response.status, 200)
    assert.match(response.headers.get('content-type'), /^text\/event-stream/)
    assert.equal(response.headers.get('content-encoding'), null)
    await question.asked
    const reader = response.body.getReader()
    for (const word of ['one', '二', 'three']) {
      question.say(word)
      await soon(readUntil(reader, word), word)
    }
    question.end()
    assert.match(await soon(readUntil(reader, '[DONE]'), 'the end'), /"type":"done"/)
    assert.ok((await soon(reader.read(), 'the end of the body')).done)
  })

  for (const moment of ['before the first word', 'in mid-answer']) {
    test(`${broken ? 'is known not to end' : 'ends'} the answer when its reader leaves ${moment}`, async () => {
      const question = provider.question()
      const leave = new AbortController()
      const sent = post(url, { messages: question.messages }, { signal: leave.signal })
      sent.catch(() => {})
      await question.asked
      if (moment === 'in mid-answer') {
        question.say('one')
        await readUntil((await sent).body.getReader(), 'one')
      }
      leave.abort()
      if (!broken) return soon(question.left, 'the provider is told')
      // docs/frontends.md says so. When this fails, the proxy has been mended: say that there.
      assert.equal(await Promise.race([question.left, sleep(3000, 'goes on')]), 'goes on')
      question.end()
    })
  }

  test('a cut in front of it loses nothing, and asks once', async (t) => {
    const proxy = await front(t)
    const question = provider.question()
    const stream = await client(proxy.url).ai.chatStream({ messages: question.messages, resumable: true })
    await question.asked
    let text = ''
    question.say('one ')
    for await (const chunk of stream) {
      if (chunk.type !== 'content') continue
      text += chunk.content
      proxy.cut()
      if (text === 'one ') question.say('two')
      else question.end()
    }
    assert.equal(text, 'one two')
    assert.equal(question.times, 1)
  })

  test('a cut behind it loses nothing, and asks once', async () => {
    const question = provider.question()
    const stream = await client().ai.chatStream({ messages: question.messages, resumable: true })
    await question.asked
    question.say('one ')
    let text = ''
    for await (const chunk of stream) {
      if (chunk.type !== 'content') continue
      text += chunk.content
      back.cut()
      if (text === 'one ') question.say('two')
      else question.end()
    }
    assert.equal(text, 'one two')
    assert.equal(question.times, 1)
  })

  test('a plain stream that is cut does not look complete', async () => {
    const question = provider.question()
    const opened = client().ai.chatStream({ messages: question.messages })
    await question.asked
    question.say('one')
    const stream = await opened
    const seen = []
    await assert.rejects(async () => {
      for await (const chunk of stream) {
        seen.push(chunk.content)
        if (chunk.content) back.cut()
      }
    }, /ended before|reached|broke|silent/)
    assert.equal(seen[0], 'one')
    assert.equal(question.times, 1)
  })

  test('a stream is picked up by its id, behind a position', async () => {
    const question = provider.question()
    const first = await client().ai.chatStream({ messages: question.messages, resumable: true })
    await question.asked
    question.say('one ')
    let position
    for await (const _ of first) {
      position = first.lastEventId
      break
    }
    question.say('two')
    question.end()
    assert.equal(await (await client().ai.resumeStream(first.id, { lastEventId: position })).text(), 'two')
    assert.equal(await (await client().ai.resumeStream(first.id)).text(), 'one two')
    const { status, code } = await client()
      .ai.resumeStream('0'.repeat(32))
      .catch((error) => error)
    assert.deepEqual([status, code], [404, 'stream_not_found'])
  })

  test('stop ends the answer', async () => {
    const question = provider.question()
    const stream = await client().ai.chatStream({ messages: question.messages, resumable: true })
    await question.asked
    question.say('one')
    for await (const { content } of stream) if (content) await soon(stream.stop(), 'the word of the relay')
    await soon(question.left, 'the provider is told')
  })

  test('the same key gets the same answer', async () => {
    const question = provider.question()
    const ask = () =>
      post(url, { messages: question.messages, resumable: true }, { headers: { 'idempotency-key': key } })
    const key = randomUUID()
    const both = [await ask(), await ask()]
    await question.asked
    question.say('one')
    question.end()
    for (const response of both) assert.match(await response.text(), /"content":"one"[\s\S]*\[DONE\]/)
    assert.equal(both[0].headers.get('x-stream-id'), both[1].headers.get('x-stream-id'))
    assert.equal(question.times, 1)
  })

  test('a refusal comes as the relay gives it', async () => {
    const response = await post(url, { messages: [] })
    assert.equal(response.status, 400)
    const { error, code } = await response.json()
    assert.equal(code, 'invalid_request')
    assert.match(error, /messages/)
  })

  test('40 s of silence, before the first word and in mid-answer', async () => {
    const silent = async (words) => {
      const question = provider.question()
      const sent = post(url, { messages: question.messages, resumable: words.length > 0 })
      await question.asked
      for (const word of words) question.say(word)
      await sleep(40_000)
      question.say('last')
      question.end()
      const text = await (await sent).text()
      assert.ok(text.match(/"type":"ping"/g)?.length >= 2, `pings: ${text}`)
      assert.match(text, /"last"[\s\S]*"type":"done"[\s\S]*\[DONE\]/)
      assert.equal(question.times, 1)
    }
    // A whole answer has no pings. A proxy may give up, and with the same key the retry waits for the same answer.
    const whole = async () => {
      const question = provider.question()
      const headers = { 'idempotency-key': randomUUID(), accept: 'application/json' }
      let tries = 0
      const answer = (async () => {
        while (++tries < 4) {
          const response = await post(url, { messages: question.messages, stream: false }, { headers }).catch(
            () => {},
          )
          if (response?.ok) return response.json()
        }
      })()
      await question.asked
      await sleep(40_000)
      question.say('whole')
      question.end()
      assert.equal((await answer)?.content, 'whole')
      assert.equal(tries, name.includes('rewrites') ? 2 : 1, 'Next.js gives up after 30 s')
      assert.equal(question.times, 1)
    }
    // The SDK's asks for a stream.
    const chat = async () => {
      const question = provider.question()
      const answer = client(url, 60_000).ai.chat({ messages: question.messages })
      await question.asked
      await sleep(40_000)
      question.say('collected')
      question.end()
      assert.equal((await answer).content, 'collected')
      assert.equal(question.times, 1)
    }
    await Promise.all([silent([]), silent(['first']), chat(), ...(own ? [] : [whole()])])
  }, 120_000)

  if (own) return

  test('a page of its own is let in, also where the browser says little, and no other', async () => {
    const origin = new URL(url).origin
    const ask = (headers) => post(url, { messages: [] }, { headers })
    assert.equal(
      (await ask({ origin, 'sec-fetch-site': 'same-origin' })).status,
      400,
      'let in, and then refused',
    )
    assert.equal((await ask({ origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' })).status, 403)
    // Over plain http there is no Sec-Fetch-Site, and the rule gives no host to compare.
    assert.equal((await ask({ origin })).status, broken ? 403 : 400)
    assert.equal((await ask({ origin: 'https://evil.example' })).status, 403)
  })
}
