// Tries the installed package on whatever runtime this runs on: exits 0 when all of it works.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { AbortError, APIError, StreamError, StreamInterruptedError, WebsopyClient } from '@websopy/sdk'
import { ChatStore } from '@websopy/sdk/store'

const frame = (json, id) => `data: ${JSON.stringify(json)}\n${id ? `id: ${id}\n` : ''}\n`
const content = (text) => ({ type: 'content', content: text })
const done = frame({ type: 'done', finishReason: 'stop' })

let left = () => {}
let attempts = 0
const models = {
  whole: (response) =>
    response.end(`${frame(content('量子'))}${frame(content('👋🏽'))}${done}data: [DONE]\n\n`),
  error: (response) =>
    response.end(frame({ type: 'error', error: 'No', code: 'upstream_error', retryable: true })),
  truncated: (response) => response.end(frame(content('half'))),
  endless: (response) => {
    response.write(frame(content('a')))
    response.on('close', () => left())
  },
  resumable: (response) => {
    response.write(frame({ type: 'start', id: 's' }, 's.1') + frame(content('a'), 's.2'))
    setTimeout(() => response.socket.destroy(), 50)
  },
}
const server = createServer(async (request, response) => {
  let body = ''
  for await (const piece of request) body += piece
  const { model } = body ? JSON.parse(body) : {}
  if (model === 'busy' && ++attempts < 3) {
    response.writeHead(429, { 'retry-after': '0' }).end('{"error":"Busy","code":"rate_limited"}')
    return
  }
  if (model === 'wrong') {
    response.writeHead(400).end('{"error":"Wrong","code":"invalid_request"}')
    return
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.flushHeaders()
  if (request.method === 'GET') response.end(frame(content('a'), 's.2') + frame(content('b'), 's.3') + done)
  else models[model === 'busy' ? 'whole' : model](response)
})
await once(server.listen(0, '127.0.0.1'), 'listening')
const client = new WebsopyClient({ baseURL: `http://127.0.0.1:${server.address().port}`, apiKey: 'k' })
const ask = (model, more) =>
  client.ai.chatStream({ messages: [{ role: 'user', content: 'Hi' }], model, ...more })

assert.equal(await (await ask('whole')).text(), '量子👋🏽')
assert.equal(await (await ask('busy')).text(), '量子👋🏽')
assert.equal(await (await ask('resumable')).text(), 'ab')
await assert.rejects(ask('wrong'), APIError)
await assert.rejects((await ask('error')).text(), StreamError)
await assert.rejects((await ask('truncated')).text(), StreamInterruptedError)

const events = []
const listened = await ask('whole')
listened.on('data', ({ type }) => events.push(type))
await new Promise((resolve) => listened.on('end', resolve))
assert.deepEqual(events, ['content', 'content', 'done'])

const noticed = new Promise((resolve) => {
  left = resolve
})
const controller = new AbortController()
const endless = await ask('endless', { signal: controller.signal })
await assert.rejects(async () => {
  for await (const _ of endless) controller.abort()
}, AbortError)
await noticed

const store = new ChatStore(() => ({ client, model: 'whole' }))
assert.equal(await store.sendMessage('Hi'), true)
assert.equal(store.getSnapshot().messages[1].content, '量子👋🏽')

server.closeAllConnections()
server.close()
